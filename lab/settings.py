"""Every variable that shapes the lab, with its default: the one place that reads EC2_LAB_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .policy import Policy


class SettingsError(ValueError):
    """A variable has a value that the lab cannot use; the text is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds; `boot` is None when sshd never comes up."""

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
    policy: Policy | None = None

    def faults_file(self, state: Path) -> Path:
        return Path(self.faults) if self.faults else state / "faults.json"


def read(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment. Raises SettingsError."""
    devices = environment.get("EC2_LAB_DEVICES") or Settings.devices
    if devices not in ("nitro", "xen"):
        raise SettingsError(f"EC2_LAB_DEVICES is {devices!r}: set it to nitro or xen")
    boot = environment.get("EC2_LAB_BOOT", "")
    return Settings(
        pending=_seconds(environment, "PENDING", Settings.pending),
        boot=None if boot == "never" else _seconds(environment, "BOOT", 2.0),
        shutdown=_seconds(environment, "SHUTDOWN", Settings.shutdown),
        volume_creating=_seconds(environment, "VOLUME_CREATING", Settings.volume_creating),
        attach=_seconds(environment, "ATTACH", Settings.attach),
        device=_seconds(environment, "DEVICE", Settings.device),
        detach=_seconds(environment, "DETACH", Settings.detach),
        devices=devices,
        region=environment.get("EC2_LAB_REGION") or Settings.region,
        faults=environment.get("EC2_LAB_FAULTS", ""),
        policy=_policy(environment.get("EC2_LAB_POLICY", "")),
    )


def _policy(name: str) -> Policy | None:
    if not name:
        return None
    try:
        return Policy(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"EC2_LAB_POLICY is {name!r}, which cannot be used: {error}") from error


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(f"EC2_LAB_{name}", "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:  # also refuses nan
        raise SettingsError(f"EC2_LAB_{name} is {text!r}: set it to a number of seconds")
    return value
