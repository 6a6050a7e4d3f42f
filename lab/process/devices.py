# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The nodes, links and sysfs entries of a disk, which on EC2 the kernel and udev make."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from lab.common.disk import Disk

MODEL = "Amazon Elastic Block Store"


def links(disk: Disk) -> list[str]:
    """Return the links that udev's rules make for an EBS volume on NVMe, as paths below /dev."""
    if not disk.serial:
        return []
    base = f"disk/by-id/nvme-{MODEL.replace(' ', '_')}_{disk.serial}"
    return [base, f"{base}_1", f"{base}-ns-1"]


def plug(root: Path, disk: Disk) -> None:
    """Make a disk's nodes, links and sysfs entries below an instance's root directory.

    Replaces an earlier disk of that name.

    :raises OSError: one of them cannot be made.
    """
    unplug(root, disk)
    sysfs = root / "sys/block" / disk.name
    (sysfs / "device").mkdir(parents=True)
    (sysfs / "queue").mkdir()
    files = {
        "dev": f"{disk.major}:{disk.minor}",
        "size": str(disk.size // 512),
        "ro": "0",
        "removable": "0",
        "queue/logical_block_size": "512",
        "queue/rotational": "0",
        "uevent": f"MAJOR={disk.major}\nMINOR={disk.minor}\nDEVNAME={disk.name}\nDEVTYPE=disk",
    }
    if disk.serial:
        files |= {"device/serial": disk.serial, "device/model": f"{MODEL:40}"}
    for name, text in files.items():
        (sysfs / name).write_text(text + "\n")
    numbers = root / "sys/dev/block" / f"{disk.major}:{disk.minor}"
    numbers.parent.mkdir(parents=True, exist_ok=True)
    numbers.symlink_to(f"../../block/{disk.name}")
    for name in _nodes(disk):
        _node(root / "dev" / name, disk)
    for link in links(disk):
        path = root / "dev" / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"../../{disk.name}")


def unplug(root: Path, disk: Disk) -> None:
    """Remove what ``plug`` made, as far as it is there."""
    for link in links(disk):
        (root / "dev" / link).unlink(missing_ok=True)
    for name in _nodes(disk):
        (root / "dev" / name).unlink(missing_ok=True)
    (root / "sys/dev/block" / f"{disk.major}:{disk.minor}").unlink(missing_ok=True)
    _remove_tree(root / "sys/block" / disk.name)


def _nodes(disk: Disk) -> Iterable[str]:
    # on x86, NetBSD's partition d is the whole disk; scripts may use either name
    return (disk.name, f"{disk.name}d") if disk.name.startswith("xbd") else (disk.name,)


def _node(path: Path, disk: Disk) -> None:
    os.mknod(path, stat.S_IFBLK | 0o660, os.makedev(disk.major, disk.minor))
    os.chown(path, 0, 6)  # group disk, as udev does
    os.chmod(path, 0o660)


def _remove_tree(path: Path) -> None:
    for directory, _, names in os.walk(path, topdown=False):
        for name in names:
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)
