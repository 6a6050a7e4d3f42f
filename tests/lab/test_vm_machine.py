"""What a virtual machine does with QEMU, and in which order. QEMU is a stand-in: fake_qemu.py."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.common.disk import Disk
from lab.common.machine import POWERED_OFF
from lab.common.settings import Settings
from lab.vm import machine, qemu
from tests.lab import fake_qemu
from tests.lab.harness import wait_for

ROOT = Disk("nvme0n1", 0, 0, 8 << 30, "vol0aa", "vol-0aa", "/s/vol-0aa.img")
AT_START = Disk("nvme1n1", 0, 0, 1 << 30, "vol0bb", "vol-0bb", "/s/vol-0bb.img")
PLUGGED = Disk("nvme2n1", 0, 0, 1 << 30, "vol0cc", "vol-0cc", "/s/vol-0cc.img")


class FakeNetwork:
    """A stand-in for the network that lists the ports."""

    def __init__(self) -> None:
        self.ports: list[str] = []

    def plug(self, tap: str, mac: str, address: str, hostname: str) -> None:
        self.ports.append(tap)

    def unplug(self, tap: str, address: str) -> None:
        self.ports.remove(tap)


class Stage:
    """A machine, and the commands that it sent to QEMU."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        self.directory = directory
        self.network = FakeNetwork()
        self.ends: list[int] = []
        facts = {
            "id": "i-0123456789abcdef0",
            "type": "t3.nano",
            "mac": "02:00:00:00:00:01",
            "address": "172.31.1.1",
            "hostname": "ip-172-31-1-1",
            "root": ROOT.volume,
            "disks": [ROOT.as_dict(), AT_START.as_dict()],
            "boot": 0.0,
        }
        platform = qemu.Platform("/i/kernel", "/i/initrd", "/i/disk", "UUID=1", "tcg")
        self.machine = machine.VirtualMachine(
            directory,
            {**facts, **spec},
            lambda _, status: self.ends.append(status),
            platform,
            self.network,  # type: ignore[arg-type]  # it has the methods that a machine uses
            Settings(instances="vm"),
        )

    @property
    def commands(self) -> list[str]:
        path = self.directory / "commands"
        return path.read_text().splitlines()[1:] if path.exists() else []  # the first is qmp_capabilities

    def ended(self) -> int:
        status: int = wait_for(lambda: self.ends, "the machine's end")[0]
        assert self.network.ports == []
        assert not self.machine.alive
        return status


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    script = shutil.copy(fake_qemu.__file__, tmp_path / "fake.py")
    for name, text in {
        qemu.PROGRAM: f'exec {sys.executable} {script} "$@"',
        "qemu-img": "while [ $# -gt 2 ]; do shift; done; touch $1",
        "setpriv": 'shift 2; exec "$@"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "_PRESS_AGAIN", 0.1)
    monkeypatch.setattr(machine, "PATIENCE", 0.5)
    stages: list[Stage] = []

    def make(**spec: Any) -> Stage:
        stages.append(Stage(tmp_path, **spec))
        return stages[-1]

    yield make
    for made in stages:
        made.machine.kill()


def test_a_machine_whose_system_shuts_down_ends_as_powered_off(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.stop()
    assert made.ended() == POWERED_OFF
    assert made.commands[-1] == "system_powerdown"


def test_a_machine_that_does_not_respond_is_stopped_by_force(stage: Callable[..., Stage], tmp_path: Path) -> None:
    (tmp_path / "unresponsive").touch()
    made = stage()
    made.machine.stop()
    assert made.ended() != POWERED_OFF
    assert made.commands.count("system_powerdown") > 1, "it is asked again, because it may respond later"


def test_a_machine_has_ended_when_kill_returns(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.kill()
    assert not made.machine.alive
    assert made.ended() != POWERED_OFF


def test_a_reboot_shuts_the_system_down_and_resets_the_machine(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.reboot()
    assert made.commands == [
        "set-action pause",
        "system_powerdown",
        "system_reset",
        "set-action poweroff",
        "cont",
    ]
    assert made.machine.alive
    made.machine.kill()
    assert made.ended() != POWERED_OFF, "the shutdown of the reboot must not count as a power-off"


def test_a_reboot_resets_a_machine_that_does_not_respond(stage: Callable[..., Stage], tmp_path: Path) -> None:
    (tmp_path / "unresponsive").touch()
    made = stage()
    made.machine.reboot()
    assert made.commands[-3:] == ["system_reset", "set-action poweroff", "cont"]


def test_a_disk_gets_a_free_port_and_is_plugged_only_once(
    stage: Callable[..., Stage],
) -> None:
    made = stage()
    made.machine.plug(AT_START)
    made.machine.plug(PLUGGED)
    made.machine.plug(PLUGGED)
    assert [command.split()[0] for command in made.commands] == ["blockdev-add", "device_add"]
    assert made.commands[1].endswith(" port1"), "port0 has the disk from the start"


def test_unplugging_waits_for_the_guest_and_closes_the_file(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.unplug(AT_START)
    assert made.commands == ["device_del vol0bb", "blockdev-del volume-vol0bb", "blockdev-del volume-vol0bb"]
    made.machine.plug(AT_START)
    assert made.commands[-1].endswith(" port0"), "its port must be free again"


def test_unplugging_a_disk_that_was_never_plugged_does_nothing(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.unplug(PLUGGED)
    assert made.commands == []


def test_unplugging_from_a_machine_that_does_not_respond_ends_with_the_machine(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    (tmp_path / "unresponsive").touch()
    made = stage()
    worker = threading.Thread(target=made.machine.unplug, args=(AT_START,))
    worker.start()
    wait_for(lambda: made.commands.count("device_del vol0bb") > 1, "the guest to be asked again")
    made.machine.kill()
    worker.join(5)
    assert not worker.is_alive()


def test_a_machine_is_held_until_its_boot_time_or_for_ever(stage: Callable[..., Stage], tmp_path: Path) -> None:
    never = stage(boot=None)
    wait_for((tmp_path / "root.qcow2").exists, "the root disk, whose file both machines use")
    late = stage(boot=0.2)
    wait_for(lambda: "cont" in late.commands, "the boot")
    assert never.machine.alive
    assert late.commands.count("cont") == 1, "both machines write to this file"


def test_the_root_disk_is_made_once(stage: Callable[..., Stage], tmp_path: Path) -> None:
    first = stage()
    first.machine.stop()
    made = (tmp_path / "root.qcow2").stat().st_mtime_ns
    second = stage()
    second.machine.stop()
    assert (tmp_path / "root.qcow2").stat().st_mtime_ns == made
