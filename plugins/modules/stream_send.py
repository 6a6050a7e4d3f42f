#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stream_send
short_description: Stream a directory's archive onto a volume over SSH
version_added: "0.1.0"
description:
  - Pipes the C(tar) archive of a directory over SSH into C(dd) on the raw device of a volume that is attached to an
    instance. There is no temporary archive on either side.
  - The device is found by the volume's identity, and refused unless it has the volume's size and is not mounted or
    otherwise in use. Without O(force) it is also refused if it holds a filesystem, a partition table or other
    signature.
  - Succeeds only if every process ended successfully, and the instance has flushed exactly the bytes that were sent to
    stable storage.
  - Before the first byte is written, the block at the volume's end is replaced by one that says that there is no backup
    on the volume.
  - Runs on the host whose directory is saved. The instance needs only a POSIX shell and C(dd).
options:
  path:
    description:
      - The directory.
    type: str
    required: true
  run_id:
    description:
      - The run's ID, for the block at the volume's end that says that the volume is being written to.
    type: str
    required: true
  host:
    description:
      - The name of this host, for that block and for the manifest.
    type: str
    required: true
  selection:
    description:
      - What is left out of the archive, as M(ec2_backup.ebs.source_info) returned it.
    type: dict
    default: {}
  leave_out:
    description:
      - Directories of the run itself, which are left out of the archive.
    type: list
    elements: path
    default: []
  local_filter:
    description:
      - A shell command through which the archive goes before it is sent. The status that C(sh -c) returns has to be 0.
        If it is a compressor and an encryption as M(ec2_backup.ebs.source_info) composes them, that of each has to be.
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
  manifest:
    description:
      - Writes the manifest, which makes what is on the volume a backup, as soon as the stream has succeeded.
        An empty dictionary is enough.
      - If this is left out, no manifest is written. M(ec2_backup.ebs.manifest_write) can write it later, for example
        after the volume has been read back.
    type: dict
    suboptions:
      local_inverse:
        description:
          - The command that undoes O(local_filter). For those that are known it need not be given.
        type: str
      remote_inverse:
        description:
          - The command that undoes O(remote_filter). For those that are known it need not be given.
        type: str
extends_documentation_fragment:
  - ec2_backup.ebs.device
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
    details: The task is skipped.
seealso:
  - module: ec2_backup.ebs.manifest_write
  - module: ec2_backup.ebs.source_info
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Make a backup of /srv/data on the volume
  ec2_backup.ebs.stream_send:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    path: /srv/data
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
    run_id: 20261122t184500z-1f2e3d4c
    host: web1
    manifest: {}
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
  description: How many files changed while they were read, or could not be read. Otherwise the archive is complete.
  type: int
  returned: success
  sample: 1
source_warnings:
  description: Those files, each with tar's reason; the first 1000.
  type: list
  elements: str
  returned: success
  sample: ["./log: file changed as we read it"]
started:
  description: When the stream began, in UTC by this host's clock.
  type: str
  returned: success
  sample: "2026-11-22T18:45:00Z"
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
manifest:
  description: The manifest, as C(docs/volume-format.md) describes it.
  type: dict
  returned: with O(manifest)
stderr_of:
  description: The last lines each process wrote to its stderr, by the process's name.
  type: dict
  returned: failure
  sample: {"ssh": "Connection closed by remote host"}
"""


from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS, remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import write_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import encode, writing
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import check_directory
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError, StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.manifest_block import write
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Interrupted, interruptible
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.selection import arguments, leave_out
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.send import send
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils.version import VERSION


def write_manifest(asked, sent, path):
    """Write the manifest of the stream that was sent, and return it.

    :raises StreamError: it was not written.
    """
    inverses = {side: asked["manifest"][side + "_inverse"] for side in ("local", "remote")}
    return write(asked, sent, {"host": asked["host"], "path": path}, inverses)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            path={"type": "str", "required": True},
            run_id={"type": "str", "required": True},
            host={"type": "str", "required": True},
            selection={"type": "dict", "default": {}},
            leave_out={"type": "list", "elements": "path", "default": []},
            local_filter={"type": "str"},
            remote_filter={"type": "str"},
            force={"type": "bool", "default": False},
            manifest={
                "type": "dict",
                "options": {"local_inverse": {"type": "str"}, "remote_inverse": {"type": "str"}},
            },
        )
    )
    asked = module.params
    interruptible("the volume holds no complete backup")
    try:
        path = check_directory(asked["path"])
        started = times.stamp()
        block = writing(run_id=asked["run_id"], host=asked["host"], path=path, started=started, version=VERSION)
        script = write_script(
            asked["volume_id"],
            asked["volume_size"],
            encode(block).decode("ascii"),
            asked["remote_filter"],
            asked["force"],
            asked["device_exact"],
            asked["timeout"],
        )
        command = remote_command(script, asked["device"])
        result = send(
            expand_arguments(asked["ssh"]),
            command,
            path,
            asked["volume_id"],
            asked["timeout"],
            asked["local_filter"],
            bool(asked["remote_filter"]),
            arguments(leave_out(asked["selection"], path, asked["leave_out"])),
        )
        result["started"] = started
        if asked["manifest"] is not None:
            interruptible("the manifest may or may not be on the volume")
            result["manifest"] = write_manifest(asked, result, path)
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
