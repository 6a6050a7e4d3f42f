# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Linux system calls that Python 3.11 does not offer: namespaces, mounts, loop devices, the loopback link."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE = 1, 2, 4, 8, 4096, 8192
MS_REC, MS_PRIVATE = 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_BLKROSET = 0x125D
_LOOP_MAJOR = 7


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def become_root() -> None:
    """Enter a user namespace in which this user is root and no other user exists (user_namespaces(7)).

    The process must have one thread.

    :raises OSError: only root may make one here.
    """
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the parent thread that made it ends (prctl(2))."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def mount(source: str, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Call mount(2).

    :raises OSError: the call failed; the text names the target.
    """
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    _check(result, f"mount {target}")


def make_mounts_private() -> None:
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def loopback_up() -> None:
    """Bring lo up in this network namespace; then all of 127.0.0.0/8 is local."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING


@dataclass(frozen=True)
class LoopDevice:
    """A block device over a file.

    :ivar descriptor: the kernel removes the device when this is closed, so also if its owner is killed.
    """

    descriptor: int
    number: int

    @property
    def major(self) -> int:
        return _LOOP_MAJOR

    @property
    def minor(self) -> int:
        return os.minor(os.fstat(self.descriptor).st_rdev)

    def is_free(self) -> bool:
        """Return whether it is neither mounted nor opened exclusively (O_EXCL)."""
        try:
            os.close(os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_EXCL))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        return True

    def close(self) -> None:
        os.close(self.descriptor)


def loop_attach(path: Path) -> LoopDevice:
    """Make a loop device over a whole file.

    Two labs may try to take the same free device; the one that fails takes the next.

    :raises OSError: there is no free device, or the kernel refuses it.
    """
    with open("/dev/loop-control", "rb") as control, open(path, "r+b") as backing:
        for _ in range(200):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            descriptor = os.open(_loop_node(number), os.O_RDWR | os.O_CLOEXEC)
            # struct loop_config of <linux/loop.h>: fd, block size, loop_info64, reserved
            info = struct.pack(
                "5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, path.name.encode(), b"", b"", 0, 0
            )
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, struct.pack("2I", backing.fileno(), 0) + info + bytes(64))
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:
                    raise
                continue
            # The kernel keeps `blockdev --setro` with the device number, and a volume of EC2 is never read-only.
            fcntl.ioctl(descriptor, _BLKROSET, struct.pack("i", 0))
            return LoopDevice(descriptor, number)
    raise OSError(errno.EBUSY, "no free loop device")


def _loop_node(number: int) -> str:
    path = f"/dev/loop{number}"
    with contextlib.suppress(FileExistsError):  # it is missing where /dev is not a devtmpfs, as in containers
        os.mknod(path, stat.S_IFBLK | 0o660, os.makedev(_LOOP_MAJOR, number))
    return path
