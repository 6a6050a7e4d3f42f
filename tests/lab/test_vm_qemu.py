"""The command line of QEMU and the client of its monitor."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from pathlib import Path

import pytest

from lab.common.disk import Disk
from lab.vm import qemu

PLATFORM = qemu.Platform("/i/kernel", "/i/initrd", "/i/disk", "PARTUUID=1-2", "tcg")
ROOT = Disk("nvme0n1", 0, 0, 8 << 30, "vol0aa", "vol-0aa", "/s/volumes/vol-0aa.img")
DATA = Disk("nvme1n1", 0, 0, 1 << 30, "vol0bb", "vol-0bb", "/s/a,b/vol-0bb.img")
HARDWARE = qemu.Hardware(
    platform=PLATFORM,
    id="i-0123456789abcdef0",
    type="t3.small",
    mac="02:00:00:00:00:01",
    tap="tap456789abcdef0",
    memory=512,
    overlay=Path("/s/a,b/root.qcow2"),
    root_disk=ROOT,
    disks=(DATA,),
    console=Path("/s/a,b/console.log"),
)


def values(command: list[str], option: str) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == option]


def test_the_firmware_tables_are_like_those_of_ec2() -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html"""
    tables = values(qemu.command(HARDWARE, 7), "-smbios")
    system = next(table for table in tables if table.startswith("type=1,"))
    fields = dict(part.split("=", 1) for part in system.split(","))
    assert fields["manufacturer"] == "Amazon EC2"
    assert fields["serial"] == fields["uuid"] == qemu.system_uuid(HARDWARE.id)
    assert fields["uuid"].startswith("ec2")
    assert f"type=2,manufacturer=Amazon EC2,asset={HARDWARE.id}" in tables


def test_the_uuid_of_a_machine_is_stable_and_unique() -> None:
    assert qemu.system_uuid("i-0a") == qemu.system_uuid("i-0a") != qemu.system_uuid("i-0b")


def test_the_serial_of_a_volume_is_its_id_without_the_dash() -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html"""
    devices = [json.loads(text) for text in values(qemu.command(HARDWARE, 7), "-device") if text.startswith("{")]
    assert [(device["driver"], device["serial"], device["bus"]) for device in devices] == [
        ("nvme", "vol0aa", "pcie.0"),
        ("nvme", "vol0bb", "port0"),
    ]


def test_on_xen_the_serial_of_a_disk_is_its_name() -> None:
    disks = {name: dataclasses.replace(disk, name=name) for name, disk in (("xvda", ROOT), ("xvdf", DATA))}
    hardware = dataclasses.replace(HARDWARE, xen=True, root_disk=disks["xvda"], disks=(disks["xvdf"],))
    devices = [json.loads(text) for text in values(qemu.command(hardware, 7), "-device") if text.startswith("{")]
    assert [(device["driver"], device["serial"]) for device in devices] == [
        ("virtio-blk-pci", "xvda"),
        ("virtio-blk-pci", "xvdf"),
    ]


def test_data_volumes_are_raw_files_and_the_root_disk_is_an_overlay() -> None:
    nodes = [json.loads(text) for text in values(qemu.command(HARDWARE, 7), "-blockdev")]
    assert [(node["driver"], node["file"]["filename"]) for node in nodes] == [
        ("qcow2", "/s/a,b/root.qcow2"),
        ("raw", "/s/a,b/vol-0bb.img"),
    ]


def test_a_comma_in_a_path_is_escaped() -> None:
    (console,) = (text for text in values(qemu.command(HARDWARE, 7), "-chardev") if "console" in text)
    assert console == "file,id=console,path=/s/a,,b/console.log,append=on"


def test_a_machine_that_is_held_starts_with_its_processor_stopped() -> None:
    assert "-S" not in qemu.command(HARDWARE, 7)
    assert "-S" in qemu.command(dataclasses.replace(HARDWARE, held=True), 7)


class Fake:
    """QEMU's end of a monitor."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.events: list[tuple[str, object]] = []
        self.seen = threading.Event()
        self.monitor = qemu.Monitor(ours, self.take)
        self.channel = theirs
        self.lines = theirs.makefile("r")

    def take(self, event: str, data: object) -> None:
        self.events.append((event, data))
        self.seen.set()

    def say(self, **message: object) -> None:
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, object]:
        message: dict[str, object] = json.loads(self.lines.readline())
        return message

    def greet(self) -> None:
        self.say(QMP={"version": {}})
        assert self.hear() == {"execute": "qmp_capabilities"}
        self.say(**{"return": {}})

    def end(self) -> None:
        self.lines.close()
        self.channel.close()


@pytest.fixture
def fake() -> Fake:
    return Fake()


def run(call: object, results: list[object]) -> threading.Thread:
    def work() -> None:
        try:
            results.append(call())  # type: ignore[operator]
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_command_waits_for_the_greeting_and_returns_its_own_answer(fake: Fake) -> None:
    results: list[object] = []
    first = run(lambda: fake.monitor.execute("query-status"), results)
    fake.greet()
    asked = fake.hear()
    assert (asked["execute"], asked["arguments"]) == ("query-status", {})
    fake.say(event="RESET", data={"guest": True})
    fake.say(id=asked["id"], **{"return": {"running": True}})
    first.join(5)
    assert results == [{"running": True}]
    assert fake.events == [("RESET", {"guest": True})]


def test_an_error_of_qemu_is_raised_with_its_class(fake: Fake) -> None:
    results: list[object] = []
    call = run(lambda: fake.monitor.execute("device_del", id="x"), results)
    fake.greet()
    fake.say(id=fake.hear()["id"], error={"class": "DeviceNotFound", "desc": "Device 'x' not found"})
    call.join(5)
    (error,) = results
    assert isinstance(error, qemu.QmpError)
    assert (error.kind, str(error)) == ("DeviceNotFound", "Device 'x' not found")


def test_commands_fail_when_qemu_ends_and_afterwards(fake: Fake) -> None:
    results: list[object] = []
    call = run(lambda: fake.monitor.execute("cont"), results)
    fake.greet()
    fake.hear()
    fake.say(event="SHUTDOWN", data={"reason": "guest-shutdown"})
    fake.end()
    fake.monitor.drain()
    assert fake.events == [("SHUTDOWN", {"reason": "guest-shutdown"})]
    call.join(5)
    assert isinstance(results[0], qemu.Gone)
    with pytest.raises(qemu.Gone):
        fake.monitor.execute("cont")
