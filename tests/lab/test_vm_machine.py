"""The life of a virtual machine, with a QEMU that is none: what is done to it, and in which order."""

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
BORN = Disk("nvme1n1", 0, 0, 1 << 30, "vol0bb", "vol-0bb", "/s/vol-0bb.img")
LATER = Disk("nvme2n1", 0, 0, 1 << 30, "vol0cc", "vol-0cc", "/s/vol-0cc.img")


class NoNetwork:
    """Notes what is asked of the network."""

    def __init__(self) -> None:
        self.ports: list[str] = []

    def plug(self, tap: str, mac: str, address: str, hostname: str) -> None:
        self.ports.append(tap)

    def unplug(self, tap: str, address: str) -> None:
        self.ports.remove(tap)


class Stage:
    """One machine, and what it did."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        self.directory = directory
        self.network = NoNetwork()
        self.ends: list[int] = []
        facts = {
            "id": "i-0123456789abcdef0",
            "type": "t3.nano",
            "mac": "02:00:00:00:00:01",
            "address": "172.31.1.1",
            "hostname": "ip-172-31-1-1",
            "root": ROOT.volume,
            "disks": [ROOT.as_dict(), BORN.as_dict()],
            "boot": 0.0,
        }
        platform = qemu.Platform("/i/kernel", "/i/initrd", "/i/disk", "UUID=1", "tcg")
        self.machine = machine.VirtualMachine(
            directory,
            {**facts, **spec},
            lambda _, status: self.ends.append(status),
            platform,
            self.network,  # type: ignore[arg-type]  # as much of it as a machine uses
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


def test_a_machine_that_powers_itself_off_ends_so(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.stop()
    assert made.ended() == POWERED_OFF
    assert made.commands[-1] == "system_powerdown"


def test_one_that_is_deaf_is_stopped_by_force(stage: Callable[..., Stage], tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    made = stage()
    made.machine.stop()
    assert made.ended() != POWERED_OFF
    assert made.commands.count("system_powerdown") > 1, "it may hear it later"


def test_one_that_is_killed_is_gone_when_that_returns(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.kill()
    assert not made.machine.alive
    assert made.ended() != POWERED_OFF


def test_a_reboot_shuts_the_system_down_and_starts_it_anew(stage: Callable[..., Stage]) -> None:
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
    assert made.ended() != POWERED_OFF, "what it did for the reboot does not count"


def test_a_reboot_resets_one_that_is_deaf(stage: Callable[..., Stage], tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    made = stage()
    made.machine.reboot()
    assert made.commands[-3:] == ["system_reset", "set-action poweroff", "cont"]


def test_a_disk_is_plugged_where_none_is_and_one_that_is_there_is_not_plugged_again(
    stage: Callable[..., Stage],
) -> None:
    made = stage()
    made.machine.plug(BORN)
    made.machine.plug(LATER)
    made.machine.plug(LATER)
    assert [command.split()[0] for command in made.commands] == ["blockdev-add", "device_add"]
    assert made.commands[1].endswith(" port1"), "port0 has the one from the start"


def test_a_disk_is_gone_when_the_guest_has_let_it_go_and_its_file_is_closed(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.unplug(BORN)
    assert made.commands == ["device_del vol0bb", "blockdev-del volume-vol0bb", "blockdev-del volume-vol0bb"]
    made.machine.plug(BORN)
    assert made.commands[-1].endswith(" port0"), "its port is free again"


def test_a_disk_that_never_was_there_needs_no_unplugging(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.machine.unplug(LATER)
    assert made.commands == []


def test_a_disk_of_a_deaf_machine_goes_when_the_machine_does(stage: Callable[..., Stage], tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    made = stage()
    worker = threading.Thread(target=made.machine.unplug, args=(BORN,))
    worker.start()
    wait_for(lambda: made.commands.count("device_del vol0bb") > 1, "it to be asked again")
    made.machine.kill()
    worker.join(5)
    assert not worker.is_alive()


def test_a_machine_that_boots_late_is_held_and_one_that_never_does_stays_so(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    never = stage(boot=None)
    wait_for((tmp_path / "root.qcow2").exists, "the root disk of the one, which is where the other looks for its own")
    late = stage(boot=0.2)
    wait_for(lambda: "cont" in late.commands, "the boot")
    assert never.machine.alive
    assert late.commands.count("cont") == 1, "both write to the same file"


def test_the_root_disk_is_made_once(stage: Callable[..., Stage], tmp_path: Path) -> None:
    first = stage()
    first.machine.stop()
    made = (tmp_path / "root.qcow2").stat().st_mtime_ns
    second = stage()
    second.machine.stop()
    assert (tmp_path / "root.qcow2").stat().st_mtime_ns == made
