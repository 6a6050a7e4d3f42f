# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of the data path stand on: real loop devices, a directory that is hard to archive, a local `ssh`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import remote_command

MIB = 1024 * 1024
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices, device nodes and mounts need root")


@contextlib.contextmanager
def attached(image: Path, *options: str) -> Iterator[Path]:
    """Yield a loop device on a file; it is detached by its own name, whatever happens.

    ``--read-only`` among the ``options`` ends with the attachment. `blockdev --setro` does not: it would stay with the
    number, and hit whoever gets that next on this machine.
    """
    argv = ["losetup", "--find", "--show", *options, str(image)]
    device = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def loop_device(image: Path, size: int) -> Iterator[Path]:
    """Yield a loop device on a new sparse file."""
    with image.open("wb") as file:
        file.truncate(size)
    with attached(image) as device:
        yield device


def need_shell(name: str) -> str:
    """Return the name of one of SHELLS, or skip the test where that is not installed."""
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"{name} is not installed")
    return name


class Host:
    """An instance's /dev, /sys and /proc, with one real block device in it under a name of the tests' choice."""

    def __init__(self, top: Path, loop: Path, size: int) -> None:
        self.top, self.loop, self.size = top, loop, size
        self.number = os.stat(loop).st_rdev
        self.numbers = f"{os.major(self.number)}:{os.minor(self.number)}"
        self.block = top / "sys/dev/block" / self.numbers
        for name in ("dev/disk/by-id", "sys/block", "sys/fs/btrfs", "proc/self"):
            (top / name).mkdir(parents=True)
        self.write(self.block / "size", size // 512)
        self.write(self.block / "ro", 0)
        (self.block / "holders").mkdir()
        self.write(top / "proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw")
        self.write(top / "proc/swaps", "Filename Type Size Used Priority")

    def write(self, path: Path, content: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")

    def node(self, name: str) -> Path:
        """Make the device appear as ``name``."""
        path = self.top / "dev" / name
        os.mknod(path, 0o60600, self.number)
        return path

    def link(self, name: str, target: str) -> None:
        (self.top / "dev/disk/by-id" / name).symlink_to(f"../../{target}")

    def nvme(self, name: str, serial: str) -> None:
        self.write(self.top / f"sys/block/{name}/device/serial", serial.ljust(20))
        self.write(self.top / f"sys/block/{name}/device/model", "Amazon Elastic Block Store".ljust(40))

    def execute(
        self,
        script: str,
        names: Sequence[str] = (),
        shell: str = "dash",
        changes: dict[str, str] | None = None,
        data: bytes = b"",
        before: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a composed script as the login's shell would, with this /dev, /sys and /proc.

        ``changes``: old → new; ``before``: words that stand before the shell.
        """
        changed = {f"{name}=/{name}": f"{name}={self.top}/{name}" for name in ("dev", "sys", "proc")} | (changes or {})
        for old, new in changed.items():
            assert old in script
            script = script.replace(old, new)
        paths = [str(self.top / "dev" / name) for name in names]
        command = remote_command(script, paths).replace("sh -c", " ".join(SHELLS[shell]) + " -c")
        argv = [*before, *SHELLS[shell], "-c", command]
        return subprocess.run(argv, check=False, input=data, capture_output=True, timeout=60)

    def content(self, count: int) -> bytes:
        with self.loop.open("rb") as file:
            return file.read(count)


def write_program(path: Path, text: str) -> Path:
    """Write an executable sh script."""
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def local_ssh(directory: Path, text: str = 'exec sh -c "$command"') -> list[str]:
    """Return an ssh argv that runs the remote command here; ``text`` may do something else with ``$command``."""
    program = write_program(directory / "ssh", f"for command; do :; done\n{text}\n")
    return [str(program), "-o", "Option=yes", "login@instance"]


def large_directory(top: Path) -> Path:
    """Make a directory whose archive does not fit in the pipes between the processes."""
    top.mkdir()
    (top / "a").write_bytes(os.urandom(16 * MIB))
    (top / "z").write_text("last")
    return top


def hard_directory(top: Path) -> Path:
    """Make a directory with one of each thing that is hard to archive."""
    top.mkdir()
    (top / "plain").write_bytes(os.urandom(2_345_678))
    (top / "empty").write_bytes(b"")
    (top / "no files").mkdir()
    deep = top
    for number in range(12):
        deep = deep / f"{number:02d}-a-rather-long-name-for-a-directory"
        deep.mkdir()
    (deep / ("n" * 250)).write_text("deep")
    os.link(top / "plain", deep / "hard link")
    (top / "symlink").symlink_to("plain")
    (top / "dangling").symlink_to("/no/where\nat all")
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
    raw = os.fsencode(top)
    for name in (b"new\nline", b"not-utf8-\xff\xfe", b"-rf", b"back\\slash", b" blank ", "schön".encode(), b"%d%f"):
        with open(raw + b"/" + name, "wb") as file:
            file.write(name)
    os.mkdir(raw + b"/d\xe9\n")
    with open(raw + b"/d\xe9\n/inside", "wb") as file:
        file.write(b"inside")
    with (top / "sparse").open("wb") as file:
        for offset in (3 * MIB, 40 * MIB, 41 * MIB):
            file.seek(offset)
            file.write(os.urandom(70_000))
        file.truncate(64 * MIB)
    with (top / "all hole").open("wb") as file:
        file.truncate(50 * MIB)
    (top / "setuid").write_text("x")
    if os.geteuid() == 0:
        os.chown(top / "setuid", 12345, 54321)
    (top / "setuid").chmod(0o6751)
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    os.setxattr(top / "plain", "user.colour", b"gr\xfcn\n\0end")
    os.setxattr(top / "no files", "user.kind", b"directory")
    # An ACL in the kernel's own form: owner rwx, user 1000 r, group r, mask r, others nothing.
    entries = [(1, 7, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (who & 0xFFFFFFFF).to_bytes(4, "little")
        for tag, rights, who in entries
    )
    os.setxattr(top / "setuid", "system.posix_acl_access", acl)
    os.utime(top / "empty", ns=(1, 1_234_567_890_123_456_789))
    os.utime(top / "symlink", ns=(1, 987_654_321_000_000_001), follow_symlinks=False)
    return top


def snapshot(top: Path) -> dict[bytes, Any]:
    """Return all that an archive should keep of a directory, told by the kernel alone. Sockets are left out."""
    told: dict[bytes, Any] = {}
    links: dict[tuple[int, int], bytes] = {}
    start = os.fsencode(top)
    paths = [start]
    for parent, directories, files in os.walk(start):
        directories.sort()
        paths += [os.path.join(parent, name) for name in sorted(directories + files)]
    for path in paths:
        status = os.lstat(path)
        kind = status.st_mode & 0o170000
        if kind == 0o140000:
            continue
        name = path[len(start) :]
        content: Any = None
        if kind == 0o100000:
            with open(path, "rb") as file:
                content = (hashlib.file_digest(file, "sha256").hexdigest(), status.st_blocks * 512 < status.st_size)
        elif kind == 0o120000:
            content = os.readlink(path)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        mtime = status.st_mtime_ns if name != b"" else 0
        first = links.setdefault((status.st_dev, status.st_ino), name)
        told[name] = (oct(status.st_mode), status.st_uid, status.st_gid, mtime, first, content, xattrs)
    return told


# ---- processes ------------------------------------------------------------------------------------------------------


def children() -> list[str]:
    """Return the process ids of what this thread has started, and not yet waited for."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    pending = [pid]
    while pending:
        try:
            for task in Path(f"/proc/{pending.pop()}/task").iterdir():
                below = {int(word) for word in (task / "children").read_text().split()}
                pending += below
                found |= below
        except OSError:
            continue
    return found


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
