#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stream_check
short_description: Read a volume's stream back on the instance, and compare its checksum
version_added: "0.1.0"
description:
  - Reads the stream back from the device, with direct I/O if the instance's C(dd) has it, and computes its SHA-256
    there. Nothing but the checksum leaves the instance.
  - If the archive was not filtered before it was sent, its members can be counted as well.
  - Changes nothing. The instance needs a POSIX shell, C(dd), a program for SHA-256, and C(tar) to count.
options:
  length:
    description:
      - The bytes on the volume.
    type: int
    required: true
  sha256:
    description:
      - The SHA-256 sum that the stream must have, as it was sent.
    type: str
    required: true
  remote_inverse:
    description:
      - The command that undoes, on the instance, the filter that the stream went through there.
    type: str
  walk:
    description:
      - Whether to count the archive's members.
    type: bool
    default: true
extends_documentation_fragment:
  - ec2_backup.ebs.device
attributes:
  check_mode:
    description: Works in check mode as it does outside of it.
    support: full
seealso:
  - module: ec2_backup.ebs.manifest_info
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Read the volume back
  ec2_backup.ebs.stream_check:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
    length: 1048576
    sha256: 30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58
"""

RETURN = r"""
members:
  description: How many members the archive has; V(-1) if they were not counted.
  type: int
  returned: success
found_bad:
  description: Whether the cause is the data on the volume, and not the way to it.
  type: bool
  returned: when the volume was read, and the module failed
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS, remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import sum_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Interrupted, interruptible
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.receive import remote_sum
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            length={"type": "int", "required": True},
            sha256={"type": "str", "required": True},
            remote_inverse={"type": "str"},
            walk={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    asked = module.params
    interruptible("the volume was not verified")
    script = sum_script(
        asked["volume_id"],
        asked["volume_size"],
        asked["length"],
        asked["remote_inverse"],
        asked["walk"],
        asked["device_exact"],
        asked["timeout"],
    )
    try:
        found, members, damage = remote_sum(
            expand_arguments(asked["ssh"]),
            remote_command(script, asked["device"]),
            asked["volume_id"],
            asked["timeout"],
        )
    except StreamError as error:
        module.fail_json(msg=str(error), stderr_of=error.stderr, found_bad=error.found_bad)
    except Interrupted as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"ssh could not be run: {error}")
    if found != asked["sha256"]:
        module.fail_json(
            msg="Volume {}: the data on it is not what was sent: its SHA-256 is {}, but should be {}".format(
                asked["volume_id"], found, asked["sha256"]
            ),
            found_bad=True,
        )
    if damage:
        module.fail_json(
            msg="Volume {}: it holds what was sent, but {}".format(asked["volume_id"], damage), found_bad=True
        )
    module.exit_json(changed=False, members=-1 if members is None else members)


if __name__ == "__main__":
    main()
