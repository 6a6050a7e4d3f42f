# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A volume as a disk of an instance, and the name that the disk has there.

Names: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
and https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Disk:
    """A volume as a disk of an instance.

    A process tree uses the block device ``major``:``minor``, a virtual machine uses ``file``.

    :ivar name: a virtual machine's kernel names its NVMe disks itself; there this is used for Xen's disks only.
    :ivar size: in bytes.
    :ivar serial: empty if the disk has none.
    """

    name: str
    major: int
    minor: int
    size: int
    serial: str = ""
    volume: str = ""
    file: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def name_for(kind: str, requested: str, index: int) -> str:
    """Return the name of a disk's device node in an instance.

    :param kind: of the instance's disks: nitro, xen or bsd.
    :param requested: the name that was asked for, which is the name on xen.
    :param index: the order of attachment from 0, from which the name follows on nitro and bsd.
    """
    if kind == "nitro":
        return f"nvme{index}n1"
    if kind == "bsd":
        return f"xbd{index}"
    return re.sub(r"^sd(?=[a-z])", "xvd", requested.removeprefix("/dev/"))


def serial_for(kind: str, volume_id: str) -> str:
    """Return the serial number of a disk: on nitro the volume's ID without its dash, else empty."""
    return volume_id.replace("-", "") if kind == "nitro" else ""
