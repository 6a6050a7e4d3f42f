# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""QEMU: the command line of a virtual machine that looks like EC2's, and a client of its monitor (QMP).

Firmware tables: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
QMP: https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.common.disk import Disk

PROGRAM = "qemu-system-x86_64"
PORTS = 16
"""How many volumes a machine can have besides the root volume: each needs a PCIe port, for hot-plug."""

# The guest must not time out on a disk that is slow because this machine is busy. Amazon's images have this setting
# too: https://docs.aws.amazon.com/ebs/latest/userguide/timeout-nvme-ebs-volumes.html
_KERNEL_ARGUMENTS = "rw console=ttyS0,115200n8 nvme_core.io_timeout=4294967295"


@dataclass(frozen=True)
class Platform:
    """What all machines of a lab use.

    :ivar disk: the image below their overlays.
    :ivar root: the kernel's ``root=``.
    """

    kernel: str
    initrd: str
    disk: str
    root: str
    accel: str


@dataclass(frozen=True)
class Hardware:
    """The hardware of one machine.

    :ivar memory: in MiB.
    :ivar overlay: the file of the root disk.
    :ivar held: it starts with its processor stopped, until the monitor gets the command ``cont``.
    """

    platform: Platform
    id: str
    type: str
    mac: str
    tap: str
    memory: int
    overlay: Path
    root_disk: Disk
    disks: tuple[Disk, ...]
    console: Path
    xen: bool = False
    held: bool = False


def system_uuid(instance_id: str) -> str:
    """Return a machine's UUID. It begins with ``ec2``, by which cloud-init's ds-identify recognises EC2."""
    return str(uuid.UUID("ec2" + hashlib.sha256(instance_id.encode()).hexdigest()[:29]))


def command(hardware: Hardware, monitor: int) -> list[str]:
    """Return QEMU's command line.

    :param monitor: the descriptor of QEMU's end of the QMP connection.
    """
    identity = system_uuid(hardware.id)
    platform = hardware.platform
    return [
        PROGRAM,
        *("-name", hardware.id),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,sata=off,smbus=off,vmport=off,usb=off"),
        *("-accel", platform.accel, "-cpu", "host" if platform.accel == "kvm" else "max,la57=off"),
        *(("-S",) if hardware.held else ()),
        *("-smp", "1", "-m", f"{hardware.memory}M"),
        *("-smbios", "type=0,vendor=Amazon EC2,version=1.0"),
        *("-smbios", f"type=1,manufacturer=Amazon EC2,product={hardware.type},serial={identity},uuid={identity}"),
        *("-smbios", f"type=2,manufacturer=Amazon EC2,asset={hardware.id}"),
        *("-smbios", "type=3,manufacturer=Amazon EC2,asset=Amazon EC2"),
        *("-kernel", platform.kernel, "-initrd", platform.initrd),
        *("-append", f"root={platform.root} {_KERNEL_ARGUMENTS}"),
        *("-chardev", f"file,id=console,path={_escape(hardware.console)},append=on", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-netdev", f"tap,id=net,ifname={hardware.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={hardware.mac},addr=0x5,romfile="),
        *("-device", "virtio-rng-pci,addr=0x6"),
        *(word for port in range(PORTS) for word in ("-device", _port(port))),
        *("-blockdev", json.dumps(_root_node(hardware))),
        *("-device", json.dumps({**device(hardware.root_disk, hardware.xen), "bus": "pcie.0", "addr": "0x4"})),
        *_attached(hardware.disks, hardware.xen),
    ]


def _escape(value: Path) -> str:
    return str(value).replace(",", ",,")


def _port(number: int) -> str:
    """Return a PCIe port. Eight ports are functions of one device, as the bus has too few slots for a device each."""
    address = f"addr={0x10 + number // 8:#x}.{number % 8:#x}"
    return f"pcie-root-port,id={bus(number)},bus=pcie.0,{address},multifunction=on,chassis={number + 1}"


def bus(port: int) -> str:
    return f"port{port}"


def _attached(disks: Iterable[Disk], xen: bool) -> Iterable[str]:
    for port, disk in enumerate(disks):
        yield from ("-blockdev", json.dumps(node(disk)))
        yield from ("-device", json.dumps({**device(disk, xen), "bus": bus(port)}))


def _root_node(hardware: Hardware) -> dict[str, Any]:
    # no-flush: data lost in a crash of this machine does not matter, because the instance is lost too
    return {
        "driver": "qcow2",
        "node-name": node_name(hardware.root_disk),
        "file": {"driver": "file", "filename": str(hardware.overlay), "cache": {"direct": False, "no-flush": True}},
    }


def name(disk: Disk) -> str:
    """Return a disk's name in QEMU."""
    return disk.volume.replace("-", "")


def node(disk: Disk) -> dict[str, Any]:
    """Return the block node of a volume, for ``-blockdev`` and as the arguments of ``blockdev-add``."""
    return {
        "driver": "raw",
        "node-name": node_name(disk),
        "file": {"driver": "file", "filename": disk.file},
    }


def node_name(disk: Disk) -> str:
    return f"volume-{name(disk)}"  # 27 characters; QEMU takes 31


def device(disk: Disk, xen: bool) -> dict[str, Any]:
    """Return the device of a volume without its bus, for ``-device`` and as the arguments of ``device_add``.

    :param xen: make it a virtio disk whose serial is its name; a udev rule in the image makes the link /dev/NAME.
    """
    common = {"id": name(disk), "drive": node_name(disk)}
    if xen:
        return {"driver": "virtio-blk-pci", "serial": disk.name, **common}
    return {"driver": "nvme", "serial": disk.serial, "max_ioqpairs": 2, **common}


class QmpError(Exception):
    """QEMU refused a command.

    :ivar kind: its error class.
    """

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(description)
        self.kind = kind


class Gone(Exception):
    """QEMU has ended, or closed its monitor."""


class Monitor:
    """A QMP connection. Commands may come from any thread.

    :param on_event: called from one of the monitor's own.
    """

    def __init__(self, channel: socket.socket, on_event: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._channel = channel
        self._on_event = on_event
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._gone = False
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Return QEMU's answer to a command.

        :raises QmpError: QEMU refuses it.
        :raises Gone: QEMU ends.
        """
        reply: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ready.wait()
        with self._lock:
            if self._gone:
                raise Gone
            number = next(self._numbers)
            self._waiting[number] = reply
            text = json.dumps({"execute": command, "arguments": arguments, "id": number})
            try:
                self._channel.sendall(text.encode() + b"\n")
            except OSError as error:
                del self._waiting[number]
                raise Gone from error
        answer = reply.get()
        if "error" in answer:
            raise QmpError(answer["error"]["class"], answer["error"]["desc"])
        if "return" not in answer:
            raise Gone
        return answer["return"]

    def drain(self) -> None:
        """Wait until all messages have been handled. QEMU must have ended."""
        self._reader.join()

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                self._take(json.loads(line))
        with self._lock:
            self._gone = True
            self._ready.set()
            for reply in self._waiting.values():
                reply.put({})
        self._channel.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "QMP" in message:
            # the greeting; QEMU accepts no other command before this one
            self._channel.sendall(b'{"execute": "qmp_capabilities"}\n')
        elif "event" in message:
            self._on_event(message["event"], message.get("data", {}))
        elif "id" in message:
            with self._lock:
                reply = self._waiting.pop(message["id"])
            reply.put(message)
        else:
            self._ready.set()  # the answer to qmp_capabilities
