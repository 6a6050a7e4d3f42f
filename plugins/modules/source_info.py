#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: source_info
short_description: Check a directory that is to be saved, and measure its archive
version_added: "0.1.0"
description:
  - Checks that a directory can be saved, and returns the length of its archive, without reading file data.
  - Runs on the host whose directory is saved, which needs GNU tar 1.28 or newer.
options:
  path:
    description:
      - The directory. A leading C(~) is expanded. A symbolic link to a directory stands for what it leads to.
    type: str
    required: true
  exclude:
    description:
      - Patterns of what is left out, as C(docs/filters.md) describes them.
    type: list
    elements: str
    default: []
  exclude_from:
    description:
      - Files with such patterns, one a line. Empty lines, and those that begin with C(#), are no patterns.
    type: list
    elements: path
    default: []
  exclude_caches:
    description:
      - Whether to leave out the contents of directories with a valid C(CACHEDIR.TAG), except for that file.
    type: bool
    default: false
  one_file_system:
    description:
      - Whether to leave out the contents of other filesystems that are mounted below the directory.
    type: bool
    default: false
  local_filter:
    description:
      - The shell command that the archive is to go through. Its program has to be installed.
    type: str
  compress:
    description:
      - V(zstd), V(gzip), V(xz), V(lz4) or V(bzip2), optionally with a level, as in V(zstd:19), in place of
        O(local_filter).
    type: str
  encrypt:
    description:
      - V(age:RECIPIENT) or V(gpg:RECIPIENT), in place of O(local_filter). What is compressed is encrypted afterwards.
    type: str
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: Nothing is ever changed.
notes:
  - A file that cannot be read is no failure. The archive is made without it, and M(ec2_backup.ebs.stream_send) lists
    it.
seealso:
  - module: ec2_backup.ebs.stream_send
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Measure /srv/data
  ec2_backup.ebs.source_info:
    path: /srv/data
  register: source

- name: Measure / without what need not be kept, to be encrypted
  ec2_backup.ebs.source_info:
    path: /
    exclude: [/var/cache, "*.o"]
    one_file_system: true
    compress: zstd
    encrypt: age:age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
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
stream_bytes:
  description:
    - The length in bytes to plan for. Without a filter that is RV(archive_bytes). With one it is 1 % more, since data
      that is compressed already gets a little longer.
  type: int
  returned: success
  sample: 1059062
stream_bytes_least:
  description: The least number of bytes in the stream; 0 if it goes through anything but an encryption.
  type: int
  returned: success
  sample: 1048576
local_filter:
  description: The shell command that the archive is to go through; empty if there is none.
  type: str
  returned: success
  sample: zstd -q -T0 -c
selection:
  description: What is left out. For M(ec2_backup.ebs.stream_send) and M(ec2_backup.ebs.manifest_write).
  type: dict
  returned: success
notices:
  description: What users should know about the selection, each in one line.
  type: list
  elements: str
  returned: success
  sample: ["left out, since it holds no files or does not outlast a boot: what is in /dev, /proc, /run and /sys"]
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

import os
import socket
import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import (
    FilterError,
    compose,
    inverse_program,
    stages,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import check_directory
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.measure import measure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.mounts import read_mounts
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.selection import (
    arguments,
    leave_out,
    read_patterns,
    select,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import tar_version
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, last_words, with_words

TRIAL_SECONDS = 60


def check_filter(asked):
    """Return the local filter. One that ec2-backup composed itself is tried with empty input.

    :raises FilterError: the options contradict each other, or name no filter.
    :raises SourceError: a program of the filter is not installed, or the filter fails.
    """
    named = compose(asked["compress"] or "", asked["encrypt"] or "")
    given = asked["local_filter"] or ""
    if named and given:
        raise FilterError(
            "a local filter (-l, ec2_backup_local_filter) cannot be combined with --compress or --encrypt "
            "(ec2_backup_compress, ec2_backup_encrypt): put the whole pipeline into the filter"
        )
    for command in stages(named or given) if named or given else []:
        program = inverse_program(command)
        if program and not _is_command(program):
            hint = f"install the package {program}" if named else "install it, or correct the filter"
            raise SourceError(f"{program}, which the archive is to go through, is not installed on this host: {hint}")
        if named:
            _try(command)
    return named or given


def _is_command(program):
    """Return whether a shell can run this, as a program or as a builtin."""
    argv = ["sh", "-c", 'command -v "$1" >/dev/null', "sh", program]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == 0


def _try(command):
    """Run a filter with empty input, so that an unknown recipient fails now and not in the middle of the stream.

    :raises SourceError: it failed, or did not end in time.
    """
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"the filter `{command}` did nothing for {TRIAL_SECONDS} s when it was tried") from None
    if done.returncode != 0:
        reason = describe_status(f"the filter `{command}`", done.returncode)
        raise SourceError(with_words(reason, last_words(done.stderr.decode("utf-8", "replace"))))


def own_directories():
    """Return the directory of the wrapper's run, if the wrapper runs this module: its files change during the run."""
    above = os.path.dirname(os.environ.get("TMPDIR", ""))
    name = os.path.basename(above)
    return [above] if name.startswith("ec2-backup-") and os.path.isfile(os.path.join(above, "lock")) else []


def choose(path, asked):
    """Return the selection, and notices about it.

    :raises SourceError: a pattern is not valid, or a file of patterns cannot be read.
    """
    patterns = list(asked["exclude"])
    for file in asked["exclude_from"]:
        patterns += read_patterns(file)
    selection, idle = select(path, patterns, asked["exclude_caches"], asked["one_file_system"], read_mounts())
    notices = []
    if idle:
        named = ", ".join(idle[:3]) + (f" and {len(idle) - 3} more" if idle[3:] else "")
        notices.append(f"outside of {path}, and so leaving nothing out (./ stands for {path}): {named}")
    if selection["left_out"]:
        notices.append(
            "left out, since it holds no files or does not outlast a boot: what is in "
            + " and ".join(filter(None, [", ".join(selection["left_out"][:-1]), selection["left_out"][-1]]))
        )
    return leave_out(selection, path, own_directories()), notices


def planned(length, command, asked):
    """Return the bytes to plan for, and the least number of bytes.

    :param length: of the archive, in bytes.
    :param command: the filter behind it; empty if there is none.
    """
    if not command:
        return length, length
    return length + length // 100, length if not asked["compress"] and asked["encrypt"] else 0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "exclude_from": {"type": "list", "elements": "path", "default": []},
            "exclude_caches": {"type": "bool", "default": False},
            "one_file_system": {"type": "bool", "default": False},
            "local_filter": {"type": "str"},
            "compress": {"type": "str"},
            "encrypt": {"type": "str"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        path = check_directory(asked["path"])
        version = tar_version()
        command = check_filter(asked)
        selection, notices = choose(path, asked)
        length, log = measure(path, arguments(selection))
    except (SourceError, FilterError) as error:
        module.fail_json(msg=str(error))
    warnings, count = log.findings()
    for notice in log.notices:
        module.warn("tar: " + notice)
    planned_for, least = planned(length, command, asked)
    module.exit_json(
        changed=False,
        path=path,
        host=socket.gethostname(),
        archive_bytes=length,
        stream_bytes=planned_for,
        stream_bytes_least=least,
        local_filter=command,
        selection=selection,
        notices=notices,
        source_warnings=warnings,
        source_warnings_count=count,
        tar_version=version,
    )


if __name__ == "__main__":
    main()
