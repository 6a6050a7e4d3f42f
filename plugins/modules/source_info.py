#!/usr/bin/python
# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_info
short_description: Check a directory that is to be saved, and measure its archive
description:
  - Checks that a directory can be saved, and tells how long its archive is going to be, without reading file data.
  - Runs on the host whose directory is saved, which needs GNU tar 1.28 or newer.
options:
  path:
    description:
      - The directory. A leading C(~) is expanded. A symbolic link to a directory stands for what it leads to.
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: Nothing is ever changed.
notes:
  - A file that cannot be read is no failure here. The archive is made without it, and
    M(ec2_backup.ebs.stream_send) lists it.
seealso:
  - module: ec2_backup.ebs.stream_send
author:
  - The ec2-backup authors
"""

EXAMPLES = r"""
- name: Measure /srv/data
  ec2_backup.ebs.source_info:
    path: /srv/data
  register: source
"""

RETURN = r"""
path:
  description: The directory's absolute path. Symbolic links are kept.
  type: str
  returned: success
  sample: /srv/data
host:
  description: The host's name.
  type: str
  returned: success
  sample: db1
archive_bytes:
  description:
    - The archive's length in bytes, a multiple of 1 MiB.
    - Exact for a directory that stays as it is. Files with holes can make it a little too high, never too low, and
      files that cannot be read are counted.
  type: int
  returned: success
  sample: 1048576
source_warnings_count:
  description: How many files and directories could not be read while measuring.
  type: int
  returned: success
  sample: 0
source_warnings:
  description: Those files and directories, each with tar's reason; the first 1000.
  type: list
  elements: str
  returned: success
  sample: ["./private: Cannot open: Permission denied"]
tar_version:
  description: The version of GNU tar.
  type: str
  returned: success
  sample: "1.34"
"""

import socket

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils.archive import (
    SourceError,
    check_directory,
    measure,
    tar_version,
)


def main() -> None:
    module = AnsibleModule(argument_spec={"path": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        path = check_directory(module.params["path"])
        version = tar_version()
        length, log = measure(path)
    except SourceError as error:
        module.fail_json(msg=str(error))
    warnings, count = log.findings()
    for notice in log.notices:
        module.warn("tar: " + notice)
    module.exit_json(
        changed=False,
        path=path,
        host=socket.gethostname(),
        archive_bytes=length,
        source_warnings=warnings,
        source_warnings_count=count,
        tar_version=version,
    )


if __name__ == "__main__":
    main()
