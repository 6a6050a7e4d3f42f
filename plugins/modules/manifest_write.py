#!/usr/bin/python
# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: manifest_write
short_description: Write the manifest of a finished backup onto its volume
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
  - The ec2-backup authors
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

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS, remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import put_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import complete, encode
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.manifest_block import put
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.selection import record
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils.version import VERSION


def document(asked):
    """The manifest of what was sent."""
    sent = asked["sent"]
    return complete(
        run_id=asked["run_id"],
        host=asked["source"]["host"],
        path=asked["source"]["path"],
        stream_bytes=int(sent["bytes"]),
        stream_sha256=sent["sha256"],
        stored_bytes=int(sent["stored_bytes"]),
        volume_bytes=asked["volume_size"],
        started=sent["started"],
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        version=VERSION,
        warnings=int(sent["source_warnings_count"]),
        local_filter=asked["local_filter"],
        remote_filter=asked["remote_filter"],
        local_inverse=asked["local_inverse"],
        remote_inverse=asked["remote_inverse"],
        selection=record(asked["selection"]),
    )


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
    manifest = document(asked)
    try:
        text = encode(manifest).decode("ascii")
        script = put_script(asked["volume_id"], asked["volume_size"], text, asked["device_exact"], asked["timeout"])
        command = remote_command(script, asked["device"])
        ssh = expand_arguments(asked["ssh"])
        put(ssh, command, asked["volume_id"], asked["timeout"])
    except StreamError as error:
        module.fail_json(msg=f"The manifest was not written: {error}", stderr_of=error.stderr)
    except (ValueError, OSError) as error:
        module.fail_json(msg=f"The manifest was not written: {error}")
    module.exit_json(changed=True, manifest=manifest)


if __name__ == "__main__":
    main()
