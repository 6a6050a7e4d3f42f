# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A process tree as the API server sees it: start it, plug and unplug its disks, end it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.common.disk import Disk

from . import cloudinit, devices

_READY_WITHIN = 60.0  # seconds to mount a few file systems; far more than it takes even on a busy machine


def plan(spec: Mapping[str, Any]) -> cloudinit.Plan:
    """Return what the guest must do according to the user-data and the key pair of an instance."""
    if spec["ami"] == "netbsd":
        return cloudinit.Plan(root_keys=[spec["key"]] if spec["key"] else [])
    return cloudinit.plan(base64.b64decode(spec["user_data"]), spec["key"], spec["user"])


class ProcessMachine:
    """A process tree, made by ``init.main``.

    :param ended: called once, from another thread, with its exit status.
    """

    def __init__(self, directory: Path, spec: Mapping[str, Any], ended: Callable[[ProcessMachine, int], None]) -> None:
        spec = {**spec, "plan": plan(spec).as_dict()}
        self._ended = ended
        self._ready = threading.Event()
        self._pid = 0
        self._lock = threading.Lock()
        report, theirs = os.pipe()
        package = str(Path(__file__).resolve().parents[2])
        code = f"import sys; sys.path.insert(0, {package!r}); from lab.process.init import main; main({theirs})"
        with open(directory / "console.log", "ab") as console, open(directory / "sshd.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=log,
                pass_fds=(theirs,),
                start_new_session=True,
                cwd="/",
            )
        os.close(theirs)
        threading.Thread(target=self._watch, args=(report,), daemon=True).start()
        assert self._process.stdin
        with self._process.stdin as pipe:
            pipe.write(json.dumps(spec).encode())

    def _watch(self, report: int) -> None:
        with open(report) as lines:
            for line in lines:
                word, _, rest = line.strip().partition(" ")
                if word == "pid":
                    self._pid = int(rest)
                elif word == "ready":
                    self._ready.set()
        status = self._process.wait()
        self._ready.set()
        self._ended(self, status)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The PID of the instance's PID 1 in the lab's PID namespace; 0 before there is one."""
        return self._pid

    def plug(self, disk: Disk) -> None:
        self._change(devices.plug, disk)

    def unplug(self, disk: Disk) -> None:
        self._change(devices.unplug, disk)

    def _change(self, change: Callable[[Path, Disk], None], disk: Disk) -> None:
        self._ready.wait(_READY_WITHIN)
        with self._lock:
            try:
                if self.alive:
                    change(Path(f"/proc/{self._pid}/root"), disk)
            except OSError:
                if self.alive:
                    raise

    def reboot(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def stop(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill all its processes, and wait until they have ended."""
        self._process.kill()  # the kernel then kills its PID 1, and with that all of the PID namespace
        self._process.wait()
        if self._pid:
            _wait_gone(self._pid)

    def kill_sshd(self) -> None:
        """Kill sshd and its sessions."""
        for pid in self.processes():
            if _command(pid) == "sshd":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def ssh_bytes(self) -> int:
        """Return how many bytes the busiest SSH session has read so far."""
        most = 0
        for pid in self.processes():
            if _command(pid) == "sshd":
                try:
                    text = Path(f"/proc/{pid}/io").read_text()
                except OSError:
                    continue
                most = max(most, int(text.split("rchar:")[1].split()[0]))
        return most

    def has_session(self) -> bool:
        """Return whether an SSH connection is open, logged in or not."""
        return sum(_command(pid) == "sshd" for pid in self.processes()) > 1

    def processes(self) -> list[int]:
        """Return the PIDs, in the lab's PID namespace, of all processes of the instance."""
        wanted = _namespace(self._pid)
        return [
            int(name) for name in os.listdir("/proc") if name.isdigit() and wanted and _namespace(int(name)) == wanted
        ]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") if pid else ""
    except OSError:
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _wait_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], 10)
    finally:
        os.close(descriptor)
