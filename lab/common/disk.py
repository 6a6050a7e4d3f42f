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
    """A volume as a disk of an instance. `size` is in bytes; `serial` is empty if the disk has none.

    A process tree uses the block device `major`:`minor`, a virtual machine uses `file`. A virtual machine's kernel
    names its NVMe disks itself; there `name` is used for Xen's disks only.
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
    """The name of the device node in an instance whose `kind` of disks is nitro, xen or bsd.

    On nitro and bsd it follows from `index`, the order of attachment from 0; on xen, from the requested name.
    """
    if kind == "nitro":
        return f"nvme{index}n1"
    if kind == "bsd":
        return f"xbd{index}"
    return re.sub(r"^sd(?=[a-z])", "xvd", requested.removeprefix("/dev/"))


def serial_for(kind: str, volume_id: str) -> str:
    """The serial number of a disk: on nitro the volume's ID without its dash, else empty."""
    return volume_id.replace("-", "") if kind == "nitro" else ""
