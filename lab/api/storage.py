"""Volumes, attachments and AMIs: moto's, with bytes behind them and states that take time."""

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
    """A volume with bytes: a file, and while it is plugged into a process tree, a loop device."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.available_at = time.monotonic() + current().settings.volume_creating
        self.snapshot_id: str = self.snapshot_id or ""  # EC2 answers with an empty element; amazon.aws relies on it
        self.loop: LoopDevice | None = None

    @property
    def file(self) -> Path:
        return current().volume_file(self.id)

    @property
    def status(self) -> str:
        if self.attachment:
            return "in-use"
        return "available" if time.monotonic() >= self.available_at else "creating"

    def disk(self, name: str, serial: str) -> Disk:
        """What an instance is to plug."""
        if self.loop is None and not current().settings.virtual:
            self.loop = volumes.loop(self.file)
        major, minor = (self.loop.major, self.loop.minor) if self.loop else (0, 0)
        return Disk(name, major, minor, self.size * GIB, serial, str(self.id), str(self.file))

    def close_loop(self) -> None:
        if self.loop:
            self.loop.close()
            self.loop = None


class LabAttachment(untyped.VolumeAttachment):  # type: ignore[misc]  # of Any: see untyped
    """An attachment whose state is a matter of time: attaching, attached, detaching (or busy), gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.attached_at = time.monotonic()
        self.leaving = ""
        super().__init__(*args, **kwargs)

    @property
    def status(self) -> str:
        return self.leaving or ("attached" if time.monotonic() >= self.attached_at else "attaching")

    @status.setter
    def status(self, value: str) -> None:
        if value == "detached":
            self.leaving = value

    @property
    def delete_on_termination(self) -> bool:
        mapping = self.instance.block_device_mapping.get(self.device)
        return bool(mapping and mapping.delete_on_termination)


class LabAmi(untyped.Ami):  # type: ignore[misc]  # of Any: see untyped
    """An AMI whose root volume is what Amazon's are: gp3, 8 GiB, deleted on termination."""

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
