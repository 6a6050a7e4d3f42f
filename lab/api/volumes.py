# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bytes of volumes and snapshots: sparse files."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from lab.common import kernel
from lab.common.kernel import LoopDevice


def create(path: Path, size: int, source: Path | None = None) -> None:
    """Make the file of a volume: the bytes of the snapshot ``source``, if there is one, and then holes.

    :param size: in bytes.
    """
    if source and source.exists():
        copy(source, path)
    else:
        path.touch(mode=0o600)
    os.truncate(path, size)


def copy(source: Path, target: Path) -> None:
    """Copy a file and keep its holes.

    :raises CalledProcessError: cp failed.
    """
    command = ["cp", "--sparse=auto", "--reflink=auto", str(source), str(target)]
    subprocess.run(command, check=True, env={"PATH": os.defpath + ":/usr/bin:/bin", "LC_ALL": "C"})


def mark_as_root(path: Path) -> None:
    """Write a partition table to a root volume, so that a search for blank disks does not find it."""
    first, sectors = 2048, path.stat().st_size // 512 - 2048
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", first, min(sectors, 0xFFFFFFFF))
    with open(path, "r+b") as handle:
        handle.seek(446)
        handle.write(entry + bytes(48) + b"\x55\xaa")


def loop(path: Path) -> LoopDevice:
    """Return a loop device over a volume's file."""
    return kernel.loop_attach(path)
