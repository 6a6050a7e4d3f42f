#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ssh_wait
short_description: Wait until a command can be run on an instance over SSH
version_added: "0.1.0"
description:
  - Tries to run a command on the instance until that succeeds. Only that proves that the login works; an open port, or
    the banner of sshd, do not.
  - Fails at once if the host key is not the pinned one, or if C(ssh) does not accept its options.
  - Runs on the host whose directory is saved.
options:
  ssh:
    description:
      - The complete argument list of ssh, up to and including C(login@host). A leading C(~/) of an element is expanded.
    type: list
    elements: str
    required: true
  timeout:
    description:
      - The seconds after which the module fails.
    type: float
    default: 300
  total:
    description:
      - The seconds that the message of a failure names, if the instance was waited for before. O(timeout) by default.
    type: float
  interval:
    description:
      - The seconds from the start of one attempt to the start of the next. An attempt that takes longer is not ended.
    type: float
    default: 0.5
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
    details: There is no instance to wait for. The task is skipped.
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Wait for a login on the instance
  ec2_backup.ebs.ssh_wait:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    timeout: 300
"""

RETURN = r"""
elapsed:
  description: The seconds waited.
  type: float
  returned: always
  sample: 21.3
attempts:
  description: The number of attempts.
  type: int
  returned: always
  sample: 40
login:
  description: The user the command ran as.
  type: str
  returned: success
  sample: ec2-backup
kernel:
  description: The instance's kernel, the output of C(uname -srm).
  type: str
  returned: success
  sample: Linux 6.1.112-122.189.amzn2023.x86_64 x86_64
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.login import WaitError, wait_for_login
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments

ARGUMENTS = {
    "ssh": {"type": "list", "elements": "str", "required": True},
    "timeout": {"type": "float", "default": 300},
    "total": {"type": "float"},
    "interval": {"type": "float", "default": 0.5},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    try:
        ssh = expand_arguments(module.params["ssh"])
        found = wait_for_login(ssh, *(module.params[key] for key in ("timeout", "interval", "total")))
    except WaitError as error:
        module.fail_json(msg=str(error), elapsed=error.elapsed, attempts=error.attempts, stderr=error.stderr)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
