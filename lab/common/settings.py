# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab's settings and their defaults. EC2_LAB_* variables are read here; EC2_LAB_STATE and _CACHE elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """A variable has a value that the lab cannot use; the text is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """The settings of a lab. Times are in seconds.

    :ivar memory: in MiB.
    :ivar boot: None if sshd never starts.
    :ivar faults: the path of a file; empty for the default one.
    :ivar policy: the path of a file; empty for no policy.
    """

    pending: float = 1.0
    boot: float | None = 2.0
    shutdown: float = 0.5
    volume_creating: float = 0.5
    attach: float = 0.5
    device: float = 0.5
    detach: float = 0.5
    devices: str = "nitro"
    region: str = "us-east-1"
    faults: str = ""
    policy: str = ""
    instances: str = "process"
    accel: str = "auto"
    memory: int = 512

    @property
    def virtual(self) -> bool:
        """Whether instances are virtual machines."""
        return self.instances == "vm"

    def faults_file(self, state: Path) -> Path:
        return Path(self.faults) if self.faults else state / "faults.json"


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    :raises SettingsError: a variable has a value that the lab cannot use.
    """
    instances = _one_of(environment, "INSTANCES", "process", "vm")
    boot = environment.get("EC2_LAB_BOOT", "")
    # a virtual machine takes time to boot in any case
    usual_boot = 0.0 if instances == "vm" else 2.0
    return Settings(
        pending=_seconds(environment, "PENDING", Settings.pending),
        boot=None if boot == "never" else _seconds(environment, "BOOT", usual_boot),
        shutdown=_seconds(environment, "SHUTDOWN", Settings.shutdown),
        volume_creating=_seconds(environment, "VOLUME_CREATING", Settings.volume_creating),
        attach=_seconds(environment, "ATTACH", Settings.attach),
        device=_seconds(environment, "DEVICE", Settings.device),
        detach=_seconds(environment, "DETACH", Settings.detach),
        devices=_one_of(environment, "DEVICES", "nitro", "xen"),
        region=environment.get("EC2_LAB_REGION") or Settings.region,
        faults=environment.get("EC2_LAB_FAULTS", ""),
        policy=environment.get("EC2_LAB_POLICY", ""),
        instances=instances,
        accel=_one_of(environment, "ACCEL", "auto", "kvm", "tcg"),
        memory=_mebibytes(environment, "MEMORY", Settings.memory),
    )


def _one_of(environment: Mapping[str, str], name: str, *values: str) -> str:
    """Return the value of a variable, which must be one of ``values``; the first is the default."""
    value = environment.get(f"EC2_LAB_{name}") or values[0]
    if value not in values:
        raise SettingsError(f"EC2_LAB_{name} is {value!r}: set it to {', '.join(values[:-1])} or {values[-1]}")
    return value


def _mebibytes(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(f"EC2_LAB_{name}", "")
    value = int(text) if text.isascii() and text.isdigit() else -1 if text else default
    if not 128 <= value <= 1 << 20:
        raise SettingsError(f"EC2_LAB_{name} is {text!r}: set it to a number of MiB, 128 or more")
    return value


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(f"EC2_LAB_{name}", "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:  # also refuses nan
        raise SettingsError(f"EC2_LAB_{name} is {text!r}: set it to a number of seconds")
    return value
