# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A virtual machine as the API server sees it: start QEMU, plug and unplug disks, end it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.api.runtime import current
from lab.common.disk import Disk
from lab.common.environment import system_path
from lab.common.machine import CRASHED, POWERED_OFF
from lab.common.settings import Settings

from . import qemu
from .network import Network, tap_name

PATIENCE = 240.0
"""Seconds for an operating system to shut down before force is used; EC2's documentation says "a few minutes"."""
_PRESS_AGAIN = 10.0  # seconds; a guest that is still booting ignores its power button
_SSH = 22


class VirtualMachine:
    """A virtual machine.

    :param ended: called once, from another thread, with its exit status.
    """

    def __init__(
        self,
        directory: Path,
        spec: Mapping[str, Any],
        ended: Callable[[VirtualMachine, int], None],
        platform: qemu.Platform,
        network: Network,
        settings: Settings,
    ) -> None:
        self._directory, self._spec, self._platform = directory, spec, platform
        self._network, self._settings, self._on_end = network, settings, ended
        self._environment = {"PATH": system_path(os.environ.get("PATH", ""))}
        self._tap = tap_name(spec["id"])
        self._changed = threading.Condition()  # guards the fields below, and is notified when they change
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: qemu.Monitor | None = None
        self._killed = False
        self._ended = False
        self._powered_off = False
        self._restarting = False
        self._ports: dict[str, int] = {}
        self._deleted: set[str] = set()
        self._plugging = threading.Lock()
        threading.Thread(target=self._run, daemon=True, name=spec["id"]).start()

    # -- start and end

    def _run(self) -> None:
        """Start it, and wait until it ends."""
        status = CRASHED
        try:
            self._network.plug(self._tap, self._spec["mac"], self._spec["address"], self._spec["hostname"])
            try:
                self._make_root_disk()
                if self._power_on():
                    self._release()
                    status = self._wait()
            finally:
                self._network.unplug(self._tap, self._spec["address"])
        except Exception:  # this thread has no caller; the traceback is in lab/server.log
            traceback.print_exc()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._on_end(self, status)

    def _make_root_disk(self) -> None:
        """Make the root disk, an overlay on the image, at the first start. Later starts use the same file."""
        overlay = self._directory / "root.qcow2"
        if not overlay.exists():
            new = overlay.with_suffix(".new")
            base = ["-F", "raw", "-b", self._platform.disk]
            command = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(new), str(self._root_disk().size)]
            subprocess.run(command, check=True, env=self._environment)
            new.rename(overlay)

    def _root_disk(self) -> Disk:
        return next(disk for disk in map(_disk, self._spec["disks"]) if disk.volume == self._spec["root"])

    def _power_on(self) -> bool:
        """Start QEMU; return False if the machine has been killed before."""
        with self._changed:
            if self._killed:
                return False
            root = self._root_disk()
            disks = tuple(disk for disk in map(_disk, self._spec["disks"]) if disk.volume != root.volume)
            ours, theirs = socket.socketpair()
            hardware = qemu.Hardware(
                platform=self._platform,
                id=self._spec["id"],
                type=self._spec["type"],
                mac=self._spec["mac"],
                tap=self._tap,
                memory=self._settings.memory,
                overlay=self._directory / "root.qcow2",
                root_disk=root,
                disks=disks,
                console=self._directory / "console.log",
                xen=self._settings.devices == "xen",
                held=self._spec["boot"] != 0,
            )
            self._ports = {qemu.name(disk): port for port, disk in enumerate(disks)}
            with theirs, open(self._directory / "qemu.log", "ab") as log:
                self._process = subprocess.Popen(
                    # QEMU must end with the server too, not only with the lab's PID namespace
                    ["setpriv", "--pdeathsig", "KILL", *qemu.command(hardware, theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=self._environment,
                )
            self._monitor = qemu.Monitor(ours, self._event)
            self._changed.notify_all()
        return True

    def _release(self) -> None:
        """Start the processor of a machine that is held, after the time that the specification says."""
        boot = self._spec["boot"]
        if not boot:
            return  # it is not held, or is held for ever
        with self._changed:
            self._changed.wait_for(lambda: self._killed, boot)
        self._execute("cont")

    def _wait(self) -> int:
        assert self._process
        assert self._monitor
        status = self._process.wait()
        self._monitor.drain()
        return POWERED_OFF if self._powered_off else status or CRASHED

    def _event(self, event: str, data: Mapping[str, Any]) -> None:
        with self._changed:
            if event == "SHUTDOWN" and data.get("reason") == "guest-shutdown":
                self._powered_off = True
            elif event == "DEVICE_DELETED":
                self._deleted.add(data.get("device", ""))
            elif event == "RESET":
                current().scheduler.soon(self._accept_ssh)  # the machine boots again, so sshd will start
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        return not self._ended

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def _execute(self, command: str, **arguments: Any) -> bool:
        """Send QEMU a command; return False if QEMU has ended or refuses it."""
        with self._changed:
            self._changed.wait_for(lambda: self._monitor or self._ended)
        try:
            if self._monitor:
                self._monitor.execute(command, **arguments)
                return True
        except qemu.Gone:
            pass
        except qemu.QmpError as error:
            print(f"{self._spec['id']}: {command}: {error}", flush=True)
        return False

    def reboot(self) -> None:
        """Press the power button and reset the machine when it has shut down, or after PATIENCE.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-reboot.html
        """
        with self._changed:
            if self._restarting:
                return
            self._restarting = True
        try:
            if self._execute("set-action", shutdown="pause"):
                self._shut_down()
                self._execute("system_reset")
                with self._changed:
                    self._powered_off = False
                self._execute("set-action", shutdown="poweroff")
                self._execute("cont")
        finally:
            with self._changed:
                self._restarting = False

    def _shut_down(self) -> None:
        """Press the power button until the system has shut down, for at most PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._execute("system_powerdown"):
            with self._changed:
                if self._changed.wait_for(lambda: self._powered_off or self._ended, _PRESS_AGAIN):
                    return

    def stop(self) -> None:
        """Shut the system down, and end the machine if it does not.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-ec2-instance-stop-start-works.html
        """
        self._execute("set-action", shutdown="poweroff")
        self._shut_down()
        self.kill()

    def kill(self) -> None:
        with self._changed:
            self._killed = True
            self._changed.notify_all()
            if self._powered_off and not self._restarting:
                # give QEMU time to end by itself: it then writes its metadata of the root disk to the file
                self._changed.wait_for(lambda: self._ended, 10)
            if self._process:
                self._process.kill()
            self._changed.wait_for(lambda: self._ended)

    # -- disks

    def plug(self, disk: Disk) -> None:
        """Add a disk to the machine.

        https://docs.aws.amazon.com/ebs/latest/userguide/ebs-attaching-volume.html
        """
        with self._plugging:
            self._plug(disk)

    def _plug(self, disk: Disk) -> None:
        name = qemu.name(disk)
        with self._changed:
            self._changed.wait_for(lambda: self._monitor or self._ended)
            if self._ended or name in self._ports or disk.volume == self._spec["root"]:
                return  # QEMU was started with it
            free = sorted(set(range(qemu.PORTS)) - set(self._ports.values()))
            if not free:
                print(f"{self._spec['id']}: no free port for {disk.volume}", flush=True)
                return
            self._ports[name] = free[0]
            self._deleted.discard(name)
        if self._execute("blockdev-add", **qemu.node(disk)):
            self._execute("device_add", **qemu.device(disk, self._settings.devices == "xen"), bus=qemu.bus(free[0]))

    def unplug(self, disk: Disk) -> None:
        """Ask the guest to release a disk, again and again until it does. Until then the volume is ``detaching``."""
        name = qemu.name(disk)
        with self._plugging, self._changed:
            self._changed.wait_for(lambda: self._monitor or self._ended)
            if name not in self._ports:
                return
        while not self._ended:
            self._ask_to_unplug(name)
            with self._changed:
                if self._changed.wait_for(lambda: name in self._deleted or self._ended, _PRESS_AGAIN):
                    break
        self._close_file(disk)

    def _ask_to_unplug(self, name: str) -> None:
        assert self._monitor
        try:
            self._monitor.execute("device_del", id=name)
        except qemu.Gone:
            pass
        except qemu.QmpError as error:
            if error.kind == "DeviceNotFound":
                with self._changed:
                    self._deleted.add(name)
            # any other error: it has been asked before and has not done it yet

    def _close_file(self, disk: Disk) -> None:
        """Have QEMU close the volume's file. QEMU refuses for a moment after the device has gone, so try for 10 s."""
        assert self._monitor
        deadline = time.monotonic() + 10
        while not self._ended:
            try:
                self._monitor.execute("blockdev-del", **{"node-name": qemu.node_name(disk)})
                break
            except qemu.Gone:
                break
            except qemu.QmpError as error:
                if str(error).startswith("Failed to find node"):
                    break
                if time.monotonic() > deadline:
                    print(f"{self._spec['id']}: cannot close the file of {disk.volume}: {error}", flush=True)
                    break
                time.sleep(0.05)  # QEMU sends no event for this
        with self._changed:
            self._ports.pop(qemu.name(disk), None)

    # -- SSH, seen from outside the machine

    def has_session(self) -> bool:
        return self._network.connected(self._spec["address"], _SSH)

    def ssh_bytes(self) -> int:
        return self._network.received(self._tap)

    def kill_sshd(self) -> None:
        """Do not touch the machine, but reset its SSH connections and refuse new ones."""
        with current().lock:
            current().firewall.cut(self._spec["address"])
        self._network.disconnect(self._spec["address"], _SSH)

    def _accept_ssh(self) -> None:
        with current().lock:
            current().firewall.mend(self._spec["address"])


def _disk(fields: Mapping[str, Any]) -> Disk:
    return Disk(**fields)
