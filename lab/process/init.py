# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One instance: a process tree in namespaces of its own. Its root is an overlay of this machine's root directory.

The API server starts ``main``, with the specification as JSON on stdin; stdout is the console, stderr is sshd's log. On
descriptor 3 it reports ``pid N`` (the instance's PID 1 in the lab's PID namespace), ``ready`` as soon as disks can be
plugged, and ``sshd`` when sshd has been started. Its exit status says how the instance ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lab.common import kernel
from lab.common.disk import Disk
from lab.common.machine import CRASHED, POWERED_OFF

from . import devices, guest

_REPORT = 3
_SIGNALS = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGIO}
_DEV_NODES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
_SHARED = {  # top-level directories that are not hidden; some get a file system of their own
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt",
    "proc",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "var",
}


def main(report: int) -> NoReturn:
    """Run the instance that stdin describes until it ends.

    :param report: the descriptor for reports.
    """
    if report != _REPORT:
        os.dup2(report, _REPORT)
        os.close(report)
    spec = json.load(sys.stdin)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    alive, _ours = os.pipe()
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(_ours)
        _as_init(spec, alive)
    os.close(_REPORT)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else CRASHED)


def _as_init(spec: Mapping[str, Any], alive: int) -> NoReturn:
    status = CRASHED
    try:
        kernel.die_with_parent(signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:
            os._exit(status)
        os.close(alive)
        _report(f"pid {os.path.basename(os.readlink('/proc/self'))}")  # /proc is still the lab's
        _enter_root(spec)
        _report("ready")
        status = _init(spec)
    except BaseException:
        guest.say(traceback.format_exc())
    finally:
        os._exit(status)


def _report(line: str) -> None:
    os.write(_REPORT, f"{line}\n".encode())


def _enter_root(spec: Mapping[str, Any]) -> None:
    kernel.make_mounts_private()
    base = Path(spec["directory"]) / "root"
    base.mkdir(exist_ok=True)
    # Changes of the root are in memory and go with the mount namespace. They are on a file system of their own because
    # overlayfs refuses layers that overlap.
    kernel.mount("root", str(base), "tmpfs", 0, "mode=755")
    os.chdir(base)  # relative paths, because a comma or colon in a path would end a mount option
    for name in ("upper", "work", "merged"):
        os.mkdir(name)
    root = base / "merged"
    kernel.mount("overlay", str(root), "overlay", 0, "lowerdir=/,upperdir=upper,workdir=work")
    _mount_inside(root, spec)
    os.chdir(root)
    kernel.mount(".", "/", None, kernel.MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    socket.sethostname(spec["hostname"])


def _mount_inside(root: Path, spec: Mapping[str, Any]) -> None:
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    _tmpfs(root, "/dev", "755", kernel.MS_NOSUID)
    _tmpfs(root, "/sys", "755", quiet)
    _tmpfs(root, "/run", "755", quiet)
    for path in ("/tmp", "/var/tmp"):
        _tmpfs(root, path, "1777", quiet)
    # hide all other directories of this machine, such as /home
    for path in (*(f"/{name}" for name in sorted(os.listdir(root))), *spec["hide"]):
        target = root / path.strip("/")
        if path.strip("/") not in _SHARED and target != root and target.is_dir() and not target.is_symlink():
            _tmpfs(root, path, "700" if path == "/root" else "755", quiet)
    kernel.mount("proc", str(root / "proc"), "proc", quiet | kernel.MS_NOEXEC)
    dev = root / "dev"
    for name, minor in _DEV_NODES.items():
        os.mknod(dev / name, 0o020666, os.makedev(1, minor))
        os.chmod(dev / name, 0o666)
    os.mknod(dev / "tty", 0o020666, os.makedev(5, 0))
    os.chmod(dev / "tty", 0o666)
    for directory in ("pts", "shm", "disk/by-id"):
        (dev / directory).mkdir(parents=True)
    kernel.mount(
        "devpts",
        str(dev / "pts"),
        "devpts",
        kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=666,mode=620,gid=5",
    )
    kernel.mount("shm", str(dev / "shm"), "tmpfs", quiet, "mode=1777")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        (dev / name).symlink_to(target)
    for disk in spec["disks"]:
        devices.plug(root, Disk(**disk))


def _tmpfs(root: Path, path: str, mode: str, flags: int) -> None:
    target = root / path.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    kernel.mount("tmpfs", str(target), "tmpfs", flags, f"mode={mode}")


def _init(spec: Mapping[str, Any]) -> int:
    """Do the work of the instance's PID 1; return its exit status when it powers off."""
    console = _open_console()
    _start_boot(spec, first=True)
    halted = False
    while True:
        event = signal.sigwaitinfo(_SIGNALS)
        _show(console)  # first, because handling the event may end the instance
        if event.si_signo == signal.SIGCHLD:
            _reap()
        elif halted:
            continue
        elif event.si_signo == signal.SIGUSR2:
            guest.kernel_line("reboot: Power down")
            return POWERED_OFF
        elif event.si_signo == signal.SIGUSR1:
            # a halted machine still has power, so EC2 shows it as running
            _kill_all()
            guest.kernel_line("reboot: System halted")
            halted = True
        elif event.si_signo == signal.SIGTERM:
            _kill_all()
            guest.kernel_line("reboot: Restarting system")
            _start_boot(spec, first=False)


def _open_console() -> int:
    """Make the FIFO /dev/console.

    It cannot be the log file itself: a program that opens it without O_APPEND would overwrite earlier output.

    :returns: the descriptor to read it from; the kernel sends SIGIO when there is data.
    """
    os.mkfifo("/dev/console", 0o600)
    descriptor = os.open("/dev/console", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    # A writer that is never closed, or reading would return end-of-file. It is a descriptor of its own: with one for
    # both, each read would make room for writing, which sends another SIGIO, and so on without end.
    os.open("/dev/console", os.O_WRONLY | os.O_CLOEXEC)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return descriptor


def _show(console: int) -> None:
    """Copy what has been written to the console to stdout."""
    try:
        while True:
            os.write(1, os.read(console, 65536))
    except BlockingIOError:
        pass


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ChildProcessError, ProcessLookupError):
        pass


def _start_boot(spec: Mapping[str, Any], *, first: bool) -> None:
    if os.fork():
        return
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _boot(spec, first=first)
    except BaseException:
        guest.say(traceback.format_exc())
    os._exit(0)


def _boot(spec: Mapping[str, Any], *, first: bool) -> None:
    guest.kernel_line("Linux version (EC2 lab, an instance made of namespaces)")
    if first:
        guest.install(spec)
        guest.before_sshd(spec)
    else:
        guest.at_each_boot(spec)
    answers_at = spec["sshd_at"] if first else time.monotonic() + (spec["boot"] or 0)
    if spec["sshd_at"] is None:
        guest.say("sshd: not started (a fault was asked for)")
        return
    time.sleep(max(0.0, answers_at - time.monotonic()))
    os.close(0)
    os.open(os.devnull, os.O_RDWR)
    subprocess.Popen(guest.sshd_command(spec), env=guest.ENVIRONMENT, stdin=0, stdout=2, start_new_session=True)
    guest.say("sshd: started")
    if first:
        _report("sshd")
        guest.after_sshd(spec)
