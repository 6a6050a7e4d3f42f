# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The mounts of this host, as the kernel lists them.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    number: int
    path: str
    options: list[str]
    kind: str


def parse_mounts(text: bytes) -> list[Mount]:
    """Return the mounts in the text of /proc/self/mountinfo (proc(5)), parents before their children."""
    mounts = []
    for line in text.splitlines():
        fields, _separator, rest = line.partition(b" - ")
        words = fields.split()
        path = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found.group(1), 8)]), words[4])
        options = words[5].decode().split(",")
        mounts.append(Mount(int(words[0]), os.fsdecode(path), options, rest.split()[0].decode()))
    return mounts


def read_mounts() -> list[Mount]:
    """Return the mounts in this process's namespace.

    :raises OSError: /proc cannot be read.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mounts(file.read())
