"""A volume as an instance sees it, and the name it has there.

Names: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
and https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Disk:
    """A volume as an instance sees it. `size` is in bytes; `serial` is empty where the guest cannot see one.

    Its bytes are those of the block device with the two numbers for a process tree, of `file` for a virtual machine,
    which names its disks itself: there `name` holds for Xen's only.
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
    """The node's name: by attach order on Nitro and on the BSD stand-in, from the requested name on Xen."""
    if kind == "nitro":
        return f"nvme{index}n1"
    if kind == "bsd":
        return f"xbd{index}"
    return re.sub(r"^sd(?=[a-z])", "xvd", requested.removeprefix("/dev/"))


def serial_for(kind: str, volume_id: str) -> str:
    return volume_id.replace("-", "") if kind == "nitro" else ""
