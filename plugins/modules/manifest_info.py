#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: manifest_info
short_description: Read the manifest of a volume
version_added: "0.1.0"
description:
  - Reads the manifest at a volume's end, and decides how its stream is to be read.
  - Fails if the volume holds no complete backup, if its manifest is damaged or missing, or if it is unknown how a
    filter is undone. A volume of an older tool, which has an archive at byte 0 and no manifest, is accepted.
  - Changes nothing, on the volume or elsewhere. The instance needs only a POSIX shell and C(dd).
options:
  local_inverse:
    description:
      - The command that undoes the filter that the archive went through before it was sent. For those that are known it
        need not be given. A command that is only recorded on the volume is never run.
    type: str
  remote_inverse:
    description:
      - The command that undoes, on the instance, the filter that the stream went through there.
    type: str
  identity:
    description:
      - The file with the secret key of an archive that was encrypted with age, as C(age -d -i) takes it.
    type: path
  leave_encrypted:
    description:
      - Whether an encrypted archive may stay encrypted, because its contents are not needed. RV(local_inverse) is then
        empty for one, unless O(identity) is given.
    type: bool
    default: false
extends_documentation_fragment:
  - ec2_backup.ebs.device
attributes:
  check_mode:
    description: Works in check mode as it does outside of it.
    support: full
seealso:
  - module: ec2_backup.ebs.manifest_write
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Read the manifest
  ec2_backup.ebs.manifest_info:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
  register: described
"""

RETURN = r"""
plain:
  description: Whether it is a volume of an older tool, that has an archive but no manifest.
  type: bool
  returned: success
manifest:
  description: The manifest, as C(docs/volume-format.md) describes it. Empty if RV(plain).
  type: dict
  returned: success
local_inverse:
  description: The command that undoes the local filter, or an empty string.
  type: str
  returned: success
remote_inverse:
  description: The command that undoes the remote filter, or an empty string.
  type: str
  returned: success
found_bad:
  description: Whether the cause is the data on the volume, and not the way to it.
  type: bool
  returned: when the volume was read, and the module failed
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS, remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import peek_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import (
    encrypts,
    inverse_program,
    known_inverse,
    programs,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import (
    ManifestError,
    decode,
    is_ours,
    is_tar,
    is_writing,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.manifest_block import peek
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import escaped

OPTIONS = {"local": "-l (ec2_backup_restore_local_filter)", "remote": "-r (ec2_backup_restore_remote_filter)"}


class Unreadable(Exception):
    """The volume cannot be read as a backup; the text is one line for the user.

    :ivar found_bad: the cause is the data on the volume.
    """

    def __init__(self, text, found_bad=False):
        super().__init__(text)
        self.found_bad = found_bad


def describe(end, block, first):
    """Return the manifest, or None for a volume of an older tool.

    :param end: the offset at which ``block`` ends.
    :param first: the volume's first 64 KiB.
    :raises Unreadable: there is no backup on the volume, or none that can be used.
    """
    try:
        manifest = decode(block, end)
    except ManifestError as error:
        if error.kind != "absent":
            raise Unreadable(str(error), found_bad=error.kind == "damaged") from None
    else:
        if is_writing(manifest):
            source = manifest["source"]
            raise Unreadable(
                "it holds no complete backup: the one of {}:{}, begun at {}, was not finished".format(
                    escaped(source["host"]), escaped(source["path"]), manifest["started"]
                ),
                found_bad=True,
            )
        return manifest
    if is_ours(first):
        raise Unreadable(
            "its manifest is lost, though a backup of ours begins on it: it was truncated, or its end was overwritten; "
            "what is there cannot be verified, but may be recovered by hand (docs/recover-by-hand.md)",
            found_bad=True,
        )
    if not is_tar(first):
        raise Unreadable(
            "it holds neither a manifest nor a tar archive: it is no backup, or a damaged one", found_bad=True
        )
    return None


def inverse(side, recorded, given, identity=None, leave_encrypted=False):
    """Return the command that undoes a filter, or an empty string if there is nothing to undo.

    :param side: ``local`` or ``remote``.
    :param recorded: the filter in the manifest, or None.
    :param given: the user's command.
    :param identity: the file with age's secret key.
    :param leave_encrypted: as the option.
    :raises Unreadable: the command is not known, or lacks what it needs.
    """
    if given or not recorded:
        return given or ""
    if side == "local":
        encrypted = encrypts(recorded["command"])
        if encrypted and leave_encrypted and not identity:
            return ""
        if encrypted == "age" and not identity:
            raise Unreadable(
                "it is encrypted with age: give the file with your identity, the secret key, with --identity "
                "(ec2_backup_restore_identity)"
            )
        if encrypted == "age" and not (os.path.isfile(identity) and os.access(identity, os.R_OK)):
            raise Unreadable(f"it is encrypted with age, and the identity {identity} cannot be read on this host")
    known = known_inverse(recorded["command"], identity if side == "local" else None)
    if known:
        return known
    # Text from a volume must not control a terminal.
    hint = "; it is said to be undone by: {}".format(escaped(recorded["inverse"])) if recorded["inverse"] else ""
    raise Unreadable(
        "it went through the {} filter `{}`, and how that is undone has to be given with {}{}".format(
            side, escaped(recorded["command"]), OPTIONS[side], hint
        )
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            local_inverse={"type": "str"},
            remote_inverse={"type": "str"},
            identity={"type": "path"},
            leave_encrypted={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    asked = module.params
    script = peek_script(asked["volume_id"], asked["volume_size"], asked["device_exact"], asked["timeout"])
    try:
        found = peek(
            expand_arguments(asked["ssh"]),
            remote_command(script, asked["device"]),
            asked["volume_id"],
            asked["timeout"],
        )
        manifest = describe(*found)
        filters = manifest["filters"] if manifest else {"local": None, "remote": None}
        inverses = {
            side: inverse(side, filters[side], asked[side + "_inverse"], asked["identity"], asked["leave_encrypted"])
            for side in ("local", "remote")
        }
        given = asked["local_inverse"]
        for program in filter(None, [inverse_program(given)] if given else programs(inverses["local"])):
            if not shutil.which(program):
                raise Unreadable(f"{program}, which undoes the filter of its archive, is not installed on this host")
    except StreamError as error:
        module.fail_json(msg=str(error), stderr_of=error.stderr, found_bad=error.found_bad)
    except Unreadable as error:
        module.fail_json(msg="Volume {}: {}".format(asked["volume_id"], error), found_bad=error.found_bad)
    except OSError as error:
        module.fail_json(msg=f"ssh could not be run: {error}")
    module.exit_json(
        changed=False,
        plain=manifest is None,
        manifest=manifest or {},
        local_inverse=inverses["local"],
        remote_inverse=inverses["remote"],
    )


if __name__ == "__main__":
    main()
