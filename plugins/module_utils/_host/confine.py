# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Confining tar to the target: the kernel makes everything else read-only for it.

Runs on the host that is restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.mounts import Mount, read_mounts
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import escaped

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 4, 32, 4096, 16384, 1 << 18
MS_STRICTATIME = 1 << 24
# Options of a mount that a remount drops unless it repeats them; in a user namespace dropping them is refused.
_MOUNT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "nosymfollow": 256, "noatime": 1024, "nodiratime": 2048}
_MOUNT_FLAGS["relatime"] = 1 << 21

# Machines on which these system calls have these numbers (Linux, include/uapi/asm-generic/unistd.h). glibc has
# functions for them only from 2.36 on.
_MODERN = ("x86_64", "aarch64", "armv7l", "i686", "ppc64le", "riscv64", "s390x", "loongarch64")
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV = 1, 4


class _Kernel:
    """The system calls, looked up before the fork.

    :raises OSError: from each of its methods: the call failed, or this kernel or C library does not have it.
    """

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long

    def _done(self, result: int, name: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    def unshare(self, flags: int) -> None:
        self._done(self.libc.unshare(flags), "unshare")

    def mount(self, source: str | None, path: str, kind: str | None, flags: int) -> None:
        names = [None if name is None else os.fsencode(name) for name in (source, path, kind)]
        self._done(self.libc.mount(*names, ctypes.c_ulong(flags), None), f"mount on {escaped(path)}")

    def syscall(self, name: str, number: int, *arguments: object) -> int:
        if platform.machine() not in _MODERN:
            raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}")
        # As longs: syscall(2) has no prototype, and of a 32-bit int the upper half would be undefined.
        longs = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
        return self._done(self.libc.syscall(ctypes.c_long(number), *longs), name)

    def open_tree(self, path: str) -> int:
        flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE
        return self.syscall("open_tree", SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)

    def mount_setattr(self, path: str, attributes: int) -> None:
        words = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)  # struct mount_attr: set, clear, propagation, userns_fd
        size = ctypes.sizeof(words)
        where = os.fsencode(path)
        self.syscall("mount_setattr", SYS_MOUNT_SETATTR, AT_FDCWD, where, AT_RECURSIVE, ctypes.byref(words), size)

    def move_mount(self, tree: int, path: str) -> None:
        where = os.fsencode(path)
        self.syscall("move_mount", SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH)


def _reached(mount: Mount) -> bool:
    """Return whether a mount's path leads to it, and not to another mount on top of it. Needs /proc/self."""
    try:
        descriptor = os.open(mount.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False  # this user cannot open it
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            return any(line.split() == ["mnt_id:", str(mount.number)] for line in file)
    finally:
        os.close(descriptor)


def _mounts() -> Iterator[Mount]:
    return (mount for mount in read_mounts() if _reached(mount))


def _namespace(kernel: _Kernel) -> None:
    """Enter a new mount namespace; as a plain user, together with a user namespace that has only that user."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        kernel.unshare(CLONE_NEWNS)
    else:
        kernel.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
    kernel.mount(None, "/", None, MS_REC | MS_PRIVATE)


def _hide_processes(kernel: _Kernel) -> None:
    """Mount an empty directory over each /proc: /proc/1/root leads into a namespace where nothing is read-only.

    /proc/self stays reachable, because the C library changes modes through /proc/self/fd.
    """
    for mount in _mounts():
        if mount.kind != "proc":
            continue
        if mount.path == "/proc":
            os.chdir("/proc/self")  # /proc/PID, which can be mounted from here when its path is hidden
        kernel.mount("none", mount.path, "tmpfs", 0)
        if mount.path == "/proc":
            os.mkdir("/proc/self")
            kernel.mount(".", "/proc/self", None, MS_BIND)


def _protect(kernel: _Kernel, target: str) -> None:
    """Make all but ``target`` read-only, and devices there unusable (tar opens none). Needs Linux 5.12."""
    tree = kernel.open_tree(target)  # a copy, whose mounts the next call does not change
    try:
        kernel.mount_setattr("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV)
        kernel.move_mount(tree, target)
    finally:
        os.close(tree)


def _protect_each_mount(kernel: _Kernel, target: str) -> None:
    """Do the same as ``_protect`` before Linux 5.12: mount by mount."""
    kernel.mount(target, target, None, MS_BIND | MS_REC)
    for mount in _mounts():
        if mount.path == target or mount.path.startswith(target + "/"):
            continue
        flags = sum(_MOUNT_FLAGS.get(option, 0) for option in mount.options)
        if not {"noatime", "relatime"} & set(mount.options):
            flags |= MS_STRICTATIME
        kernel.mount(None, mount.path, None, MS_REMOUNT | MS_BIND | flags | MS_RDONLY | MS_NODEV)


def confine(target: str) -> Callable[[], None]:
    """Return a function that a child calls between fork and exec, after which it can only write in ``target``.

    If confining fails, the child writes why to its stderr and exits with 126: it never runs unconfined. Open
    descriptors
    stay as they are. Hard links to files outside are impossible too, because the target is another mount.

    :param target: a real path (``check_target``), not ``/``; it becomes the child's working directory.
    """
    kernel = _Kernel()

    def call() -> None:
        try:
            _namespace(kernel)
            _hide_processes(kernel)
            try:
                _protect(kernel, target)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # not in this kernel, or not permitted
                    raise
                _protect_each_mount(kernel, target)
            os.chdir(target)
        except OSError as error:
            text = f"tar: cannot be confined to {escaped(target)}: {error.strerror or error}\n"
            os.write(2, text.encode("utf-8", "backslashreplace"))
            os._exit(126)

    return call


def probe_confinement(target: str) -> bool:
    """Return whether a child can be confined to ``target``, an existing directory, on this host: it is tried."""
    try:
        return (
            subprocess.run(
                ["sh", "-c", "test -w . && ! test -w / && ! test -e /proc/1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=confine(target),
                check=False,
            ).returncode
            == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False
