"""The settings of virtual machines, and the choice of their accelerator."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from lab import cli
from lab.common import settings
from lab.vm import accel


def test_instances_are_process_trees_by_default() -> None:
    assert not settings.read({}).virtual
    chosen = settings.read({"EC2_LAB_INSTANCES": "vm", "EC2_LAB_MEMORY": "1024"})
    assert (chosen.virtual, chosen.memory, chosen.accel) == (True, 1024, "auto")


def test_a_virtual_machine_boots_at_once_by_default() -> None:
    assert settings.read({}).boot == 2.0
    assert settings.read({"EC2_LAB_INSTANCES": "vm"}).boot == 0.0
    assert settings.read({"EC2_LAB_INSTANCES": "vm", "EC2_LAB_BOOT": "never"}).boot is None


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("INSTANCES", "docker", "set it to process or vm"),
        ("ACCEL", "hvf", "set it to auto, kvm or tcg"),
        ("MEMORY", "1G", "set it to a number of MiB, 128 or more"),
        ("MEMORY", "64", "set it to a number of MiB, 128 or more"),
    ],
)
def test_an_invalid_value_is_refused_with_the_valid_ones(name: str, value: str, advice: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.read({f"EC2_LAB_{name}": value})
    assert str(caught.value) == f"EC2_LAB_{name} is {value!r}: {advice}"


def test_virtual_machines_need_root_only_where_the_network_device_does(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings.read({"EC2_LAB_INSTANCES": "vm"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cli, "VM_PROGRAMS", {})
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert cli._missing(chosen) == ""
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/dev/net/tun")
    assert cli._missing(chosen).startswith("needs root to open /dev/net/tun")
    assert cli._missing(settings.read({})).startswith("needs root for namespaces")


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, path: None if "qemu" in name else name)
    missing = cli._missing(settings.read({"EC2_LAB_INSTANCES": "vm"}))
    assert missing.endswith("not found: apt-get install qemu-system-x86 qemu-utils")


@pytest.fixture
def kvm_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path == "/dev/kvm")


def choose(directory: Path) -> str:
    return accel.choose("auto", directory / "kernel", directory / "initrd", directory)


def test_kvm_is_used_where_a_kernel_boots_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kvm_device: None
) -> None:
    say = "import sys, time; print('Run /init as init process', flush=True); time.sleep(60)"
    monkeypatch.setattr(accel, "probe", lambda kernel, initrd: [sys.executable, "-c", say])
    assert choose(tmp_path) == "kvm"


def test_kvm_is_not_used_where_a_kernel_hangs_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kvm_device: None
) -> None:
    monkeypatch.setattr(accel, "PATIENCE", 0.5)
    monkeypatch.setattr(accel, "probe", lambda kernel, initrd: ["sleep", "60"])
    assert choose(tmp_path) == "tcg"


def test_the_result_is_stored_until_the_machine_boots_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kvm_device: None
) -> None:
    monkeypatch.setattr(accel, "probe", lambda kernel, initrd: ["false"])
    assert choose(tmp_path) == "tcg"
    monkeypatch.setattr(accel, "probe", lambda kernel, initrd: ["echo", "Run /init as init process"])
    assert choose(tmp_path) == "tcg"
    (tmp_path / "accel").write_text("another-boot tcg\n")
    assert choose(tmp_path) == "kvm"
    assert [path.name for path in tmp_path.iterdir()] == ["accel"]


def test_an_accelerator_that_is_named_is_used_without_a_trial(tmp_path: Path) -> None:
    assert accel.choose("tcg", tmp_path, tmp_path, tmp_path) == "tcg"


def test_without_its_device_kvm_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert choose(tmp_path) == "tcg"
