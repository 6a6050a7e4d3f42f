#!/usr/bin/python
# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stream_send
short_description: Stream a directory's archive onto a volume over SSH
description:
  - Pipes the C(tar) archive of a directory over SSH into C(dd) on the raw device of a volume that is attached to an
    instance. There is no temporary archive on either side.
  - The device is found by the volume's identity, and refused unless it has the volume's size and is not mounted or
    otherwise in use. Without O(force) it is also refused if it holds a filesystem, a partition table or other
    signature.
  - Succeeds only if every process says that it did its whole work, and the far side has flushed exactly the bytes
    that were sent.
  - Runs on the host whose directory is saved. The instance needs only a POSIX shell and C(dd).
options:
  ssh:
    description:
      - The complete argument list of ssh, up to and including C(login@host). A leading C(~/) of an element is expanded.
      - The login is root, or may become root with C(sudo -n).
    type: list
    elements: str
    required: true
  path:
    description:
      - The directory.
    type: str
    required: true
  volume_id:
    description:
      - The volume.
    type: str
    required: true
  volume_size:
    description:
      - The volume's size in bytes, which the device must have.
    type: int
    required: true
  device:
    description:
      - The names under which the device may appear where EBS disks are not NVMe, in the order in which they are tried.
    type: list
    elements: str
    default: [/dev/sdf, /dev/xvdf]
  device_exact:
    description:
      - The one name of the device on an image of another kind. Tried instead of O(device), and accepted even if its
        size cannot be told there.
    type: str
  local_filter:
    description:
      - A shell command through which the archive goes before it is sent. Its last status counts, as C(sh -c) gives it.
    type: str
  remote_filter:
    description:
      - A shell command, run as root on the instance, through which the stream goes before it is written.
    type: str
  force:
    description:
      - Whether to overwrite a filesystem, a partition table or other signature.
    type: bool
    default: false
  timeout:
    description:
      - The seconds to wait for the device to appear on the instance.
    type: int
    default: 120
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
    details: The task is skipped.
seealso:
  - module: ec2_backup.ebs.source_info
author:
  - The ec2-backup authors
"""

EXAMPLES = r"""
- name: Send /srv/data to the volume
  ec2_backup.ebs.stream_send:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    path: /srv/data
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
"""

RETURN = r"""
bytes:
  description: The bytes sent.
  type: int
  returned: success
  sample: 1048576
sha256:
  description: The SHA-256 of the bytes sent, after O(local_filter) and before O(remote_filter).
  type: str
  returned: success
  sample: 30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58
stored_bytes:
  description: The bytes on the volume. The same as RV(bytes) unless there is a O(remote_filter).
  type: int
  returned: success
  sample: 1048576
device:
  description: The device's name on the instance.
  type: str
  returned: success
  sample: /dev/nvme1n1
source_warnings_count:
  description: How many files changed while they were read, or could not be read. The archive is complete but for them.
  type: int
  returned: success
  sample: 1
source_warnings:
  description: Those files, each with tar's reason; the first 1000.
  type: list
  elements: str
  returned: success
  sample: ["./log: file changed as we read it"]
seconds:
  description: The time the stream took, to the last byte flushed.
  type: float
  returned: success
  sample: 2.5
rate:
  description: Bytes a second.
  type: int
  returned: success
  sample: 419430
stderr_of:
  description: The last lines each process wrote to its stderr, by the process's name.
  type: dict
  returned: failure
  sample: {"ssh": "Connection closed by remote host"}
"""

import signal

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils.archive import SourceError, check_directory
from ansible_collections.ec2_backup.ebs.plugins.module_utils.device import remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils.stream import StreamError, send

ARGUMENTS = {
    "ssh": {"type": "list", "elements": "str", "required": True},
    "path": {"type": "str", "required": True},
    "volume_id": {"type": "str", "required": True},
    "volume_size": {"type": "int", "required": True},
    "device": {"type": "list", "elements": "str", "default": ["/dev/sdf", "/dev/xvdf"]},
    "device_exact": {"type": "str"},
    "local_filter": {"type": "str"},
    "remote_filter": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}


class Interrupted(Exception):
    """A signal asked for the end."""


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def interrupt(number: int, _frame: object) -> None:
    for other in SIGNALS:  # the second of them must not interrupt the ending of the children
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(f"interrupted by {signal.Signals(number).name}: the volume holds no complete backup")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS)
    asked = module.params
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        path = check_directory(asked["path"])
        command = remote_command(
            asked["volume_id"],
            asked["volume_size"],
            asked["device"],
            asked["device_exact"],
            asked["remote_filter"],
            asked["force"],
            asked["timeout"],
        )
        result = send(
            expand_arguments(asked["ssh"]),
            command,
            path,
            asked["volume_id"],
            asked["timeout"],
            asked["local_filter"],
            bool(asked["remote_filter"]),
        )
    except StreamError as error:
        module.fail_json(msg=str(error), stderr_of=error.stderr)
    except (SourceError, Interrupted) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"the stream could not be set up: {error}")
    for notice in result.pop("notices"):
        module.warn("tar: " + notice)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
