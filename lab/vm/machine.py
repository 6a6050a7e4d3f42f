"""One instance as a virtual machine: the server's side of a QEMU process."""

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
"""Seconds that an operating system has to shut down before it is forced to; EC2 says "a few minutes"."""
_PRESS_AGAIN = 10.0  # seconds; a guest that is not yet up does not notice that its power button was pressed
_SSH = 22


class VirtualMachine:
    """A virtual machine. `ended` is called once, from another thread, with how it ended."""

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
        self._network, self._settings, self._end = network, settings, ended
        self._environment = {"PATH": system_path(os.environ.get("PATH", ""))}
        self._tap = tap_name(spec["id"])
        self._changed = threading.Condition()  # guards what follows, and says when it changes
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: qemu.Monitor | None = None
        self._wanted = True
        self._over = False
        self._powered_off = False
        self._restarting = False
        self._ports: dict[str, int] = {}
        self._deleted: set[str] = set()
        self._plugging = threading.Lock()
        threading.Thread(target=self._live, daemon=True, name=spec["id"]).start()

    # -- life

    def _live(self) -> None:
        """Start it, and wait for its end."""
        status = CRASHED
        try:
            self._network.plug(self._tap, self._spec["mac"], self._spec["address"], self._spec["hostname"])
            try:
                self._make_root_disk()
                if self._power_on():
                    self._hold()
                    status = self._wait()
            finally:
                self._network.unplug(self._tap, self._spec["address"])
        except Exception:  # the lab's log is where it is looked for
            traceback.print_exc()
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self._end(self, status)

    def _make_root_disk(self) -> None:
        """An overlay on the image at the first start; later ones find what the instance left there."""
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
        """Start QEMU, unless the machine is to end already."""
        with self._changed:
            if not self._wanted:
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
                    # in the lab's pid namespace, it ends with the lab; this way, with the server as well
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

    def _hold(self) -> None:
        """Let the machine boot when it may: until then its processor does not run."""
        boot = self._spec["boot"]
        if not boot:
            return  # it runs already, or never will
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted, boot)
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
                current().scheduler.soon(self._mend)  # sshd comes up anew
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        return not self._over

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def _execute(self, command: str, **arguments: Any) -> bool:
        """Have QEMU do something; False if it has ended or refuses."""
        with self._changed:
            self._changed.wait_for(lambda: self._monitor or self._over)
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
        """Press the power button, and when the system has shut down, start it anew; by force when that takes too long.

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
        """Press the power button until it shows, or patience ends."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._execute("system_powerdown"):
            with self._changed:
                if self._changed.wait_for(lambda: self._powered_off or self._over, _PRESS_AGAIN):
                    return

    def stop(self) -> None:
        """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-ec2-instance-stop-start-works.html"""
        self._execute("set-action", shutdown="poweroff")
        self._shut_down()
        self.kill()

    def kill(self) -> None:
        with self._changed:
            self._wanted = False
            self._changed.notify_all()
            if self._powered_off and not self._restarting:
                # it ends by itself, and writes down what it knows of the root disk
                self._changed.wait_for(lambda: self._over, 10)
            if self._process:
                self._process.kill()
            self._changed.wait_for(lambda: self._over)

    # -- disks

    def plug(self, disk: Disk) -> None:
        """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-attaching-volume.html"""
        with self._plugging:
            self._plug(disk)

    def _plug(self, disk: Disk) -> None:
        name = qemu.name(disk)
        with self._changed:
            self._changed.wait_for(lambda: self._monitor or self._over)
            if self._over or name in self._ports or disk.volume == self._spec["root"]:
                return  # it was there at the start
            free = sorted(set(range(qemu.PORTS)) - set(self._ports.values()))
            if not free:
                print(f"{self._spec['id']}: has no port left for {disk.volume}", flush=True)
                return
            self._ports[name] = free[0]
            self._deleted.discard(name)
        if self._execute("blockdev-add", **qemu.node(disk)):
            self._execute("device_add", **qemu.device(disk, self._settings.devices == "xen"), bus=qemu.bus(free[0]))

    def unplug(self, disk: Disk) -> None:
        """Ask the guest to let a disk go, until it has: while it does not answer, the volume is `detaching`."""
        name = qemu.name(disk)
        with self._plugging, self._changed:
            self._changed.wait_for(lambda: self._monitor or self._over)
            if name not in self._ports:
                return
        while not self._over:
            self._ask_to_unplug(name)
            with self._changed:
                if self._changed.wait_for(lambda: name in self._deleted or self._over, _PRESS_AGAIN):
                    break
        self._forget(disk)

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
            # otherwise it has been asked before, and has not come to it yet

    def _forget(self, disk: Disk) -> None:
        """Close the volume's file, after the device; QEMU lets go of the one a moment after the other."""
        assert self._monitor
        deadline = time.monotonic() + 10
        while not self._over:
            try:
                self._monitor.execute("blockdev-del", **{"node-name": qemu.node_name(disk)})
                break
            except qemu.Gone:
                break
            except qemu.QmpError as error:
                if str(error).startswith("Failed to find node"):
                    break
                if time.monotonic() > deadline:
                    print(f"{self._spec['id']}: cannot let go of {disk.volume}: {error}", flush=True)
                    break
                time.sleep(0.05)  # QEMU has no event for that
        with self._changed:
            self._ports.pop(qemu.name(disk), None)

    # -- SSH, as far as it shows from outside

    def has_session(self) -> bool:
        return self._network.connected(self._spec["address"], _SSH)

    def ssh_bytes(self) -> int:
        return self._network.received(self._tap)

    def kill_sshd(self) -> None:
        """What the callers see of that: their connections are reset, and new ones refused."""
        with current().lock:
            current().firewall.cut(self._spec["address"])
        self._network.disconnect(self._spec["address"], _SSH)

    def _mend(self) -> None:
        with current().lock:
            current().firewall.mend(self._spec["address"])


def _disk(fields: Mapping[str, Any]) -> Disk:
    return Disk(**fields)
