#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: target_info
short_description: Check a directory that is to be restored to
version_added: "0.1.0"
description:
  - Checks that a backup can be restored to a directory, and that the programs for that are installed, before anything
    is launched or written.
  - Runs on the host that is restored to, which needs GNU tar 1.28 or newer.
options:
  path:
    description:
      - The directory. It has to be empty, or absent in a directory that is there. A leading C(~) is expanded.
      - A symbolic link to a directory stands for what it leads to.
    type: str
    required: true
  force:
    description:
      - Whether the directory may contain files. Those with a name that is in the backup are going to be replaced.
      - Refused nevertheless, if the directory contains symbolic links that lead out of it, and C(tar) cannot be
        confined to the directory on this host.
    type: bool
    default: false
  identity:
    description:
      - The file with the secret key of an archive that was encrypted with age. It has to exist, and C(age) has to be
        installed.
    type: path
  programs:
    description:
      - Names of the programs that undo the backup's local filter.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: Nothing is ever changed.
seealso:
  - module: ec2_backup.ebs.source_info
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Check /srv/restored, for a backup that was compressed
  ec2_backup.ebs.target_info:
    path: /srv/restored
    programs: [zstd]
  register: target
"""

RETURN = r"""
path:
  description: The directory's absolute path, without symbolic links.
  type: str
  returned: success
  sample: /srv/restored
exists:
  description: Whether the directory exists already.
  type: bool
  returned: success
  sample: false
host:
  description: The host's name.
  type: str
  returned: success
  sample: db1
tar_version:
  description: The version of GNU tar.
  type: str
  returned: success
  sample: "1.34"
"""

import os
import shutil
import socket

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError, TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import tar_version
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.target import check_target, plan_extraction


def check_programs(programs: list[str]) -> None:
    """Check that these programs are installed.

    :raises TargetError: one of them is not.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise TargetError(
                f"{program} is needed to undo the backup's local filter, and is not installed here: install it"
            )


def check_identity(identity: str) -> None:
    """Check that the file of an age identity can be read.

    :raises TargetError: it cannot.
    """
    try:
        with open(identity, "rb") as file:
            file.read(1)
    except OSError as error:
        raise TargetError(f"the identity {identity} cannot be read: {error.strerror}") from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "force": {"type": "bool", "default": False},
            "identity": {"type": "path"},
            "programs": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    force = module.params["force"]
    try:
        path = check_target(module.params["path"], force)
        version = tar_version("the host that is restored to")
        identity = module.params["identity"]
        if identity:
            check_identity(identity)
        check_programs(module.params["programs"] + (["age"] if identity else []))
        plan_extraction(path, force)
    except (SourceError, TargetError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False, path=path, exists=os.path.isdir(path), host=socket.gethostname(), tar_version=version
    )


if __name__ == "__main__":
    main()
