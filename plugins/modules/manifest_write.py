#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: manifest_write
short_description: Write the manifest of a finished backup onto its volume
version_added: "0.1.0"
description:
  - Writes the block at the volume's end that makes what is on the volume a backup, and flushes it. Its format is
    specified in C(docs/volume-format.md).
  - Runs on the host whose directory was saved. The instance needs only a POSIX shell and C(dd).
options:
  run_id:
    description:
      - The run's ID.
    type: str
    required: true
  source:
    description:
      - What was saved, C(host) and C(path).
    type: dict
    required: true
  sent:
    description:
      - What M(ec2_backup.ebs.stream_send) returned.
    type: dict
    required: true
  local_filter:
    description:
      - The command that the archive went through before it was sent.
    type: str
  remote_filter:
    description:
      - The command that the stream went through on the instance.
    type: str
  local_inverse:
    description:
      - The command that undoes O(local_filter). For those that are known it need not be given.
    type: str
  remote_inverse:
    description:
      - The command that undoes O(remote_filter). For those that are known it need not be given.
    type: str
  selection:
    description:
      - What was left out, as M(ec2_backup.ebs.source_info) returned it.
    type: dict
    default: {}
extends_documentation_fragment:
  - ec2_backup.ebs.device
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
    details: The task is skipped.
seealso:
  - module: ec2_backup.ebs.stream_send
  - module: ec2_backup.ebs.manifest_info
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Write the manifest
  ec2_backup.ebs.manifest_write:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
    run_id: 20261122t184500z-1f2e3d4c
    source: {host: web1, path: /srv/data}
    sent: "{{ sent }}"
"""

RETURN = r"""
manifest:
  description: The manifest.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.manifest_block import write


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            run_id={"type": "str", "required": True},
            source={"type": "dict", "required": True},
            sent={"type": "dict", "required": True},
            local_filter={"type": "str"},
            remote_filter={"type": "str"},
            local_inverse={"type": "str"},
            remote_inverse={"type": "str"},
            selection={"type": "dict", "default": {}},
        )
    )
    asked = module.params
    inverses = {"local": asked["local_inverse"], "remote": asked["remote_inverse"]}
    try:
        manifest = write(asked, asked["sent"], asked["source"], inverses)
    except StreamError as error:
        module.fail_json(msg=str(error), stderr_of=error.stderr)
    module.exit_json(changed=True, manifest=manifest)


if __name__ == "__main__":
    main()
