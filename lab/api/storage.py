# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Volumes, attachments and AMIs: moto's classes, with files for the bytes and states that change with time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lab.common.disk import Disk
from lab.common.kernel import LoopDevice

from . import untyped, volumes
from .runtime import current

GIB = 1 << 30


class LabVolume(untyped.Volume):  # type: ignore[misc]  # of Any: see untyped
    """A volume. Its bytes are in a file, which has a loop device while the volume is attached to a process tree."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.available_at = time.monotonic() + current().settings.volume_creating
        self.snapshot_id: str = self.snapshot_id or ""  # as in EC2's replies; amazon.aws relies on it
        self.loop: LoopDevice | None = None

    @property
    def file(self) -> Path:
        """The file with the volume's bytes."""
        return current().volume_file(self.id)

    @property
    def status(self) -> str:
        if self.attachment:
            return "in-use"
        return "available" if time.monotonic() >= self.available_at else "creating"

    def disk(self, name: str, serial: str) -> Disk:
        """Return this volume as a disk with a name and a serial number. Makes the loop device if one is needed."""
        if self.loop is None and not current().settings.virtual:
            self.loop = volumes.loop(self.file)
        major, minor = (self.loop.major, self.loop.minor) if self.loop else (0, 0)
        return Disk(name, major, minor, self.size * GIB, serial, str(self.id), str(self.file))

    def close_loop(self) -> None:
        """Remove the loop device, if there is one."""
        if self.loop:
            self.loop.close()
            self.loop = None


class LabAttachment(untyped.VolumeAttachment):  # type: ignore[misc]  # of Any: see untyped
    """An attachment. Its states follow the clock: attaching, attached, then detaching or busy, and detached."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.attached_at = time.monotonic()
        self.detach_state = ""
        super().__init__(*args, **kwargs)

    @property
    def status(self) -> str:
        return self.detach_state or ("attached" if time.monotonic() >= self.attached_at else "attaching")

    @status.setter
    def status(self, value: str) -> None:
        if value == "detached":
            self.detach_state = value

    @property
    def delete_on_termination(self) -> bool:
        mapping = self.instance.block_device_mapping.get(self.device)
        return bool(mapping and mapping.delete_on_termination)


class LabAmi(untyped.Ami):  # type: ignore[misc]  # of Any: see untyped
    """An AMI. Its root volume is like those of Amazon's AMIs: gp3, 8 GiB, deleted on termination."""

    size = 8

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        ebs = {
            "SnapshotId": self.ebs_snapshot.id,
            "VolumeSize": self.size,
            "DeleteOnTermination": True,
            "VolumeType": "gp3",
            "Iops": 3000,
            "Throughput": 125,
            "Encrypted": False,
        }
        return [{"DeviceName": self.root_device_name, "Ebs": ebs}]
