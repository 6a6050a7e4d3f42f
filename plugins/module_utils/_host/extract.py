# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking a stream, whatever it holds: GNU tar's arguments, what its messages mean, and the walls around it.

Two lines of defence keep an archive inside its target. GNU tar's own: ".." and absolute names are refused or
stripped, and symbolic links that lead out are made last. They hold for a target that was empty, but tar follows links
that were there before (CVE-2025-45582). So there is the kernel's: ``confine``, in which all else is read-only.

Runs on the host that is restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import os
import platform
import re
import stat
import subprocess
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, NamedTuple, Sequence
else:
    from typing import NamedTuple

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import describe_status
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import unquote as unquote_bytes

MAX_LINES = 1000
BLOCKING_FACTOR = 256  # 128 KiB a read: from a pipe nearly twice as fast as tar's own 10 KiB (measured)


class TargetError(Exception):
    """Nothing can be restored to there; the text is one line for the person who asked."""


# ---- pure: arguments ------------------------------------------------------------------------------------------------


def member_name(path: str) -> str:
    """Return the bare name of a member that a person calls ``etc/passwd``, ``/etc/passwd`` or ``./etc/``.

    The empty string stands for all there is. Raises TargetError.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TargetError(f"{printable(path)}: the path of a file in a backup cannot hold '..': give it without")
    return "/".join(parts)


def member_names(members: Iterable[str]) -> list[str]:
    """Return bare names, each once, without those below another of them; none at all stands for all there is.

    (tar counts a name as found for the first of its arguments only: the other would seem to be missing.)
    """
    names = sorted({member_name(member) for member in members})
    if "" in names:
        return []
    return [name for name in names if not any(name.startswith(other + "/") for other in names)]


def _spellings(name: str) -> list[str]:
    """As our archives have it; as older tools have it (``tar -C / etc``); and with ``tar -P``."""
    return ["./" + name, name, "/" + name]


def _reading(action: str) -> list[str]:
    return [
        "tar",
        action,
        "--file=-",
        f"--blocking-factor={BLOCKING_FACTOR}",
        "--numeric-owner",
        "--quoting-style=escape",  # whatever a name holds, it is told in one line
        "--no-wildcards",
        "--no-unquote",  # or a backslash in a member's name would be taken for an escape
    ]


def _naming(members: Iterable[str]) -> list[str]:
    return ["--", *(spelling for name in member_names(members) for spelling in _spellings(name))]


def extract_arguments(members: Iterable[str] = ()) -> list[str]:
    """Return tar's whole argv to unpack the archive on its stdin into its working directory.

    ``members``: names as people give them (see ``member_name``); a directory stands for all below; none for all there
    is. Each goes to tar in every spelling an archive may have: ``ExtractLog`` knows that all but one are not found.
    """
    return [
        *_reading("--extract"),
        "--same-permissions",
        "--same-owner",  # for a plain user too: what cannot be given back is told, rather than passed over
        "--acls",
        "--xattrs",
        "--xattrs-include=*",  # tar's default is user.* alone
        "--selinux",  # needs no SELinux on this host (seen, 1.34): a label is an extended attribute
        "--delay-directory-restore",
        *_naming(members),
    ]


def list_arguments(members: Iterable[str] = ()) -> list[str]:
    """Return tar's whole argv to print the names in the archive on its stdin, one a line (see ``readable``)."""
    return [*_reading("--list"), *_naming(members)]


def compare_arguments(members: Iterable[str] = ()) -> list[str]:
    """Return tar's whole argv to compare the archive on its stdin with its working directory.

    Each line on stdout is a difference (``./etc/passwd: Mod time differs``), unless --verbose is added, which mixes
    all names in (``Comparison`` tells them apart). A file that is not there any more is told on stderr (``./a:
    Warning: Cannot stat: No such file or directory``). tar compares neither ACLs nor extended attributes, nor the
    times of directories, and does not see files that are new.
    """
    return [*_reading("--compare"), *_naming(members)]


_HIGH_BYTES = re.compile(r"\\\\|\\:|(?:\\[23][0-7]{2})+")


def readable(line: str) -> str:
    r"""Return a name or message of tar's with the letters that it told as bytes (``\303\244``) for people.

    Whatever is not a printable character stays escaped, so that no name can talk to a terminal.
    """

    def show(found: re.Match[str]) -> str:
        text = found.group()
        if text == "\\:":  # tar marks a colon in a name, where a colon follows the name
            return ":"
        if text == "\\\\":
            return text
        try:
            letters = bytes(int(octal, 8) for octal in text[1:].split("\\")).decode()
        except UnicodeDecodeError:
            return text
        return letters if letters.isprintable() else text

    return _HIGH_BYTES.sub(show, line)


def unquote(name: str) -> bytes:
    """Return the bytes of a name that tar told in its escape style."""
    return unquote_bytes(os.fsencode(name))


def printable(name: str) -> str:
    """Return a file's name as it can stand in a message of one line."""
    return name if name.isprintable() else repr(name)[1:-1]


# ---- pure: what tar said --------------------------------------------------------------------------------------------

# Kind → its noun; each with the message that tells of one. All else of such a file has been restored.
_DENIED = {
    "owner": ("owner", "owners"),
    "device": ("device node", "device nodes"),
    "fifo": ("FIFO", "FIFOs"),
    "xattr": ("extended attribute", "extended attributes"),
    "acl": ("ACL", "ACLs"),
    "label": ("security label", "security labels"),
    "mode": ("mode", "modes"),
    "time": ("time stamp", "time stamps"),
}
# In a user namespace an id that is not the user's own is "Invalid argument".
_NOT_ALLOWED = r": (?:Operation not permitted|Permission denied|Invalid argument|Operation not supported)$"
_DENIED_LINES = [
    ("owner", re.compile(r": Cannot change ownership to uid \d+, gid \d+" + _NOT_ALLOWED)),
    ("device", re.compile(r": Cannot mknod" + _NOT_ALLOWED)),
    ("fifo", re.compile(r": Cannot mkfifo" + _NOT_ALLOWED)),
    ("label", re.compile(r"^[lf]?setfilecon(?:at)?: Cannot set SELinux context .*" + _NOT_ALLOWED)),
    ("label", re.compile(r"^[lf]?setxattr(?:at)?: Cannot set 'security\.selinux' .*" + _NOT_ALLOWED)),
    ("xattr", re.compile(r"^[lf]?setxattr(?:at)?: Cannot set '.*" + _NOT_ALLOWED)),
    ("acl", re.compile(r"^acl_[a-z_]+: Cannot (?:set|drop) .*ACLs? .*" + _NOT_ALLOWED)),
    ("mode", re.compile(r": Cannot change mode to \S+" + _NOT_ALLOWED)),
    ("time", re.compile(r": Cannot utime" + _NOT_ALLOWED)),
]
_UNSAFE = re.compile(r": Member name contains '\.\.'")
# What only the walls say (see ``confine``): there is no way to write there, nor to link to there.
_WALL = re.compile(r": (?:Read-only file system|Invalid cross-device link)$")
# tar tells of the first try, not of why it could not remove what was there: perhaps because it is behind the walls.
_IN_THE_WAY = " (what is there cannot be replaced: a directory with files in it, or its path leads out of the target)"
_LOST_LINK = re.compile(r"^(?P<name>.*): Cannot hard link to '(?P<to>.*)': No such file or directory$")
_STRIPPED = re.compile(r"^Removing leading `.*' from (?P<what>member names|hard link targets)$")
_MISSING = re.compile(r"^(?P<name>.*): Not found in archive$")
_DAMAGE = re.compile(
    r"^This does not look like a tar archive$|^Skipping to next header$|^Unexpected EOF in archive"
    r"|^Unaligned block |^Archive is compressed|^Archive (?:contains|value|octal|base-256|signed)"
    r"|^Blanks in header where numeric|^[Mm]alformed (?:extended|pax)|^Extended header|xtended header length"
    r"|^(?:-: )?(?:Cannot read|Read error)|sparse archive member$"
    r"|^Unexpected long name header$|^Visible long ?name error"
)
_HARMLESS = re.compile(
    r"^Exiting with failure status due to previous errors$|: time stamp .* in the future$"
    r"|: implausibly old time stamp |^Ignoring unknown extended header keyword |^Record size = "
    r"|^Pattern matching characters used in file names$|^Use --wildcards to enable "
)
_NOTICE = re.compile(r"^(?:XATTR|POSIX ACL|SELinux) support is not (?:available|requested)|^A lone zero block at ")


class ExtractLog:
    """What tar said while it read an archive, line by line, in bounded memory (LC_ALL=C, see clean_environment).

    ``denied``: kind → how many of it this user, or this filesystem, may not have; everything else was restored.
    ``unsafe``: what would have left the target, and was refused. ``damage``: the archive is not whole.
    ``notices``: to be told, of no consequence. ``other``: fatal, or unknown. Lists hold the first lines only.
    """

    def __init__(self, members: Iterable[str] = (), confined: bool = False, limit: int = MAX_LINES) -> None:
        self.members, self.confined, self.limit = member_names(members), confined, limit
        self.denied: dict[str, int] = {}
        self.denied_lines: list[str] = []
        self.unsupported = False  # it was the filesystem that could not, at least once
        self.unsafe: list[str] = []
        self.unsafe_count = 0
        self.damage: list[str] = []
        self.notices: list[str] = []
        self.other: list[str] = []
        self._links_stripped = False
        self._not_found: set[bytes] = set()

    def feed(self, line: str) -> None:
        """Take one line of stderr, without its newline."""
        text = line[5:] if line.startswith("tar: ") else line
        missing, stripped, link = _MISSING.match(text), _STRIPPED.match(text), _LOST_LINK.match(text)
        if missing:
            if len(self._not_found) < 3 * len(self.members):
                self._not_found.add(unquote(missing.group("name")))
        elif stripped:
            self._links_stripped = self._links_stripped or stripped.group("what") == "hard link targets"
            _keep(self.notices, text, 20)
        elif _UNSAFE.search(text) or (self.confined and _WALL.search(text)) or (link and self._links_stripped):
            self.unsafe_count += 1
            _keep(self.unsafe, text, 20)
        elif link and self.members:
            name, to = link.group("name"), link.group("to")
            _keep(self.other, f"{name} is a hard link to {to} in this archive: ask for {to} as well", 20)
        elif _DAMAGE.search(text):
            _keep(self.damage, text, 20)
        elif _NOTICE.search(text):
            _keep(self.notices, text, 20)
        elif not _HARMLESS.search(text):
            self._feed_denied(text)

    def _feed_denied(self, text: str) -> None:
        for kind, pattern in _DENIED_LINES:
            if pattern.search(text):
                self.denied[kind] = self.denied.get(kind, 0) + 1
                self.unsupported = self.unsupported or text.endswith(": Operation not supported")
                _keep(self.denied_lines, text, self.limit)
                return
        _keep(self.other, text, 20)

    @property
    def missing(self) -> list[str]:
        """The members that were asked for and are in the archive by no spelling."""
        return [
            name
            for name in self.members
            if all(os.fsencode(spelling) in self._not_found for spelling in _spellings(name))
        ]

    @property
    def respelt(self) -> bool:
        """Whether tar missed any spelling of a member, which makes it end with status 2."""
        return bool(self._not_found)

    @property
    def denied_count(self) -> int:
        """How many things could not be restored as they were."""
        return sum(self.denied.values())

    def denied_text(self, uid: int) -> str | None:
        """Return in one line what could not be given back by a tar that ran as ``uid``; None if all could."""
        counts = [(self.denied.get(kind, 0), nouns) for kind, nouns in _DENIED.items()]
        told = [f"{count} {nouns[count != 1]}" for count, nouns in counts if count]
        if not told:
            return None
        what = told[0] if len(told) == 1 else "{} and {}".format(", ".join(told[:-1]), told[-1])
        if self.unsupported:
            hint = "the target's filesystem does not have them all"
        else:
            hint = "run as root" if uid else "this host does not let root set them"
        return f"restored as uid {uid}: {what} could not be restored ({hint})"


def _keep(lines: list[str], text: str, limit: int) -> None:
    if len(lines) < limit:
        lines.append(text)


def _and_more(names: Sequence[str], count: int) -> str:
    """``a, b and 3 more``: the first names of ``count``."""
    if count > len(names):
        return "{} and {} more".format(", ".join(names), count - len(names))
    return names[0] if len(names) == 1 else "{} and {}".format(", ".join(names[:-1]), names[-1])


def extract_failure(returncode: int, log: ExtractLog) -> str | None:
    """Return why the restore is not complete, in one line, or None if it is (perhaps with something denied).

    tar ends with 2 for a chown that a user may not do, and for each spelling of a member that the archive does not
    have: neither is a failure. Serves --list too. tar says nothing, and ends with 0, about an archive that was cut off
    between two members or holds nothing but zeros: that it was all there has to be known from its length and hash.
    """
    if returncode < 0:
        return describe_status("tar", returncode)
    if log.damage:
        return f"the archive is damaged: {log.damage[0]}"
    if returncode == 0:
        return None
    if log.unsafe:
        return (
            f"the archive tried to leave the target {log.unsafe_count} time{'' if log.unsafe_count == 1 else 's'}, "
            f"which was refused; do not trust it: {readable(log.unsafe[0])}"
        )
    causes = [line for line in log.other if "not recoverable" not in line] or log.other
    if causes:
        hint = _IN_THE_WAY if causes[0].endswith(": File exists") else ""
        return "{}: {}{}".format(describe_status("tar", returncode), readable(causes[0]), hint)
    if log.missing:
        names = [printable(name) for name in log.missing]
        return f"not in the backup: {_and_more(names[:3], len(names))} (the names in it can be listed)"
    if returncode == 2 and (log.denied or log.respelt):
        return None
    return "{}: it gave no reason".format(describe_status("tar", returncode))


# ---- the target -----------------------------------------------------------------------------------------------------


def check_target(path: str, force: bool = False) -> str:
    """Return the target's real, absolute path, or raise TargetError saying what is wrong with it.

    A target that does not exist is fine if it can be made (see ``make_target``). ``force``: it need not be empty.
    """
    if not path:
        raise TargetError("no target was given: name a directory that is empty or does not exist")
    real = os.path.realpath(os.path.expanduser(path))
    name = printable(real)
    try:
        mode = os.lstat(real).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(os.path.abspath(os.path.expanduser(path))):
            raise TargetError(
                f"{printable(path)} is a symbolic link to {name}, which does not exist: make it, or name a directory"
            ) from None
        _check_parent(real)
        return real
    except OSError as error:
        raise TargetError(f"{name}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        kind = "a symbolic link in a loop" if stat.S_ISLNK(mode) else "not a directory"
        raise TargetError(f"{name} is {kind}: name a directory that is empty or does not exist")
    _check_writable(real)
    first, count = _content(real)
    if count and not force:
        raise TargetError(
            f"{name} is not empty (it holds {_and_more(first, count)}): use --force (ec2_backup_restore_force)"
        )
    return real


def _check_parent(real: str) -> None:
    parent = os.path.dirname(real)
    name = printable(parent)
    try:
        mode = os.stat(parent).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(f"{printable(real)} cannot be made: there is no {name}: make that first") from None
    except OSError as error:
        raise TargetError(f"{printable(real)} cannot be made: {name}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise TargetError(f"{printable(real)} cannot be made: {name} is not a directory")
    _check_writable(parent)


def _check_writable(directory: str) -> None:
    name = printable(directory)
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise TargetError(f"{name} is on a filesystem that is mounted read-only: name a directory on another")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise TargetError(f"{name}: permission denied: it has to be writable for the user the restore runs as")


def _content(directory: str) -> tuple[list[str], int]:
    """Return the first two names in a directory, and how many there are.

    A filesystem that was just made holds lost+found: that counts as empty.
    """
    names = os.listdir(directory)
    if names == ["lost+found"] and os.path.ismount(directory):
        return [], 0
    return [printable(name) for name in heapq.nsmallest(2, names)], len(names)


def make_target(path: str) -> bool:
    """Make the target, for its owner alone until the archive says otherwise; return whether it had to be made."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise TargetError(f"{printable(path)} cannot be made: {error.strerror}") from None
    return True


def leaves(link: str, depth: int, target: str) -> bool:
    """Tell whether a symbolic link to ``link``, ``depth`` directories below ``target``, could ever lead out of it.

    By its text alone: what the link passes through may be replaced while the archive is unpacked. ".." after a name
    counts as leaving: the name can become a link to elsewhere. If no link in the target leaves by this measure, none
    of those that tar makes before the end (relative, without "..") leads out through them either.
    """
    parts = [part for part in link.split("/") if part not in ("", ".")]
    if link.startswith("/"):
        inside = [part for part in target.split("/") if part]
        return parts[: len(inside)] != inside or ".." in parts
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ups > depth or ".." in parts[ups:]


def links_that_leave(target: str, limit: int) -> list[str]:
    """Return the first ``limit`` symbolic links in ``target`` (paths below it) that could lead out of it.

    A directory that cannot be searched for them is returned as if it were one.
    """
    found: list[str] = []
    pending = [("", 0)]
    while pending and len(found) < limit:
        below, depth = pending.pop()
        try:
            with os.scandir(os.path.join(target, below)) as entries:
                for entry in entries:
                    name = os.path.join(below, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((name, depth + 1))
                    elif entry.is_symlink() and leaves(os.readlink(entry.path), depth, target):
                        found.append(name)
        except OSError:
            found.append(below or ".")
    return found[:limit]


def _stand_in() -> str:
    """Return a directory to try on what is meant for a target that does not exist yet."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.getcwd()


def plan_extraction(target: str, force: bool = False) -> bool:
    """Return whether tar is to run behind ``confine(target)``; raise TargetError if it must not run at all.

    ``target`` and ``force`` as for ``check_target``, whose path this takes. Root is confined wherever the kernel
    allows it: it costs nothing. For a plain user it takes a user namespace, in which ACLs that name others, and groups
    besides the first, cannot be given back: so only if tar's own protections would not be enough.
    """
    if target == "/":
        return False  # there is nothing outside of it
    root, exists = os.geteuid() == 0, os.path.isdir(target)
    if root and probe_confinement(target if exists else _stand_in()):
        return True
    links = links_that_leave(target, 3) if force and exists else []
    if not links:
        return False
    if not root and probe_confinement(target):
        return True
    raise TargetError(
        f"{printable(target)} holds symbolic links that lead out of it, or directories that cannot be searched for "
        f"them ({', '.join(map(printable, links))}), and this host does not allow to confine tar to it: restore into "
        "an empty directory, or remove them"
    )


# ---- the walls: all but the target is read-only ---------------------------------------------------------------------

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 4, 32, 4096, 16384, 1 << 18
MS_STRICTATIME = 1 << 24
# Options of a mount that a remount would drop, and that a user namespace may not drop.
_MOUNT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "nosymfollow": 256, "noatime": 1024, "nodiratime": 2048}
_MOUNT_FLAGS["relatime"] = 1 << 21

# The same on all of these, glibc has them from 2.36 on: include/uapi/asm-generic/unistd.h of Linux.
_MODERN = ("x86_64", "aarch64", "armv7l", "i686", "ppc64le", "riscv64", "s390x", "loongarch64")
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV = 1, 4


class _Mount(NamedTuple):
    number: int
    path: str
    options: list[str]
    kind: str


def parse_mounts(text: bytes) -> list[_Mount]:
    """Return the mounts in the text of /proc/self/mountinfo (proc(5)), parents before their children."""
    mounts = []
    for line in text.splitlines():
        fields, _separator, rest = line.partition(b" - ")
        words = fields.split()
        path = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found.group(1), 8)]), words[4])
        options = words[5].decode().split(",")
        mounts.append(_Mount(int(words[0]), os.fsdecode(path), options, rest.split()[0].decode()))
    return mounts


class _Kernel:
    """The system calls, looked up before the fork. All raise OSError."""

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
        self._done(self.libc.mount(*names, ctypes.c_ulong(flags), None), f"mount on {printable(path)}")

    def syscall(self, name: str, number: int, *arguments: object) -> int:
        if platform.machine() not in _MODERN:
            raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)}")
        # As longs: syscall(2) takes no prototype, and a 32-bit int would leave the upper half undefined.
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


def _reached(mount: _Mount) -> bool:
    """Tell whether a mount's path leads to it, and not to another that hides it. Takes /proc/self."""
    try:
        descriptor = os.open(mount.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False  # this user cannot get there
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            return any(line.split() == ["mnt_id:", str(mount.number)] for line in file)
    finally:
        os.close(descriptor)


def _mounts() -> Iterator[_Mount]:
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = parse_mounts(file.read())
    return (mount for mount in mounts if _reached(mount))


def _namespace(kernel: _Kernel) -> None:
    """Enter a mount namespace of our own; as a plain user, by way of a user namespace with that user alone."""
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
    """Cover each /proc: /proc/1/root is a way into a namespace where nothing is read-only.

    /proc/self stays, because the C library changes modes through /proc/self/fd.
    """
    for mount in _mounts():
        if mount.kind != "proc":
            continue
        if mount.path == "/proc":
            os.chdir("/proc/self")  # /proc/PID, which can be bound from here once its path is covered
        kernel.mount("none", mount.path, "tmpfs", 0)
        if mount.path == "/proc":
            os.mkdir("/proc/self")
            kernel.mount(".", "/proc/self", None, MS_BIND)


def _wall_in(kernel: _Kernel, target: str) -> None:
    """Make all but ``target`` read-only, and devices there unusable (tar opens none), from Linux 5.12 on."""
    tree = kernel.open_tree(target)  # keeps its mounts as they are, apart from what is done to all
    try:
        kernel.mount_setattr("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV)
        kernel.move_mount(tree, target)
    finally:
        os.close(tree)


def _wall_in_one_by_one(kernel: _Kernel, target: str) -> None:
    """Do the same before Linux 5.12."""
    kernel.mount(target, target, None, MS_BIND | MS_REC)
    for mount in _mounts():
        if mount.path == target or mount.path.startswith(target + "/"):
            continue
        flags = sum(_MOUNT_FLAGS.get(option, 0) for option in mount.options)
        if not {"noatime", "relatime"} & set(mount.options):
            flags |= MS_STRICTATIME
        kernel.mount(None, mount.path, None, MS_REMOUNT | MS_BIND | flags | MS_RDONLY | MS_NODEV)


def confine(target: str) -> Callable[[], None]:
    """Return what a child calls between fork and exec, so that it can write nowhere but in ``target``.

    ``target``: a real path (``check_target``), not "/". The child's working directory is then the target. If it
    cannot be done, the child says why on its stderr and ends with 126: it never runs unconfined. Descriptors that are
    open stay as they are. Hard links from the outside are cut off too: the target is another mount.
    """
    kernel = _Kernel()

    def call() -> None:
        try:
            _namespace(kernel)
            _hide_processes(kernel)
            try:
                _wall_in(kernel, target)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # none such, or kept from us
                    raise
                _wall_in_one_by_one(kernel, target)
            os.chdir(target)
        except OSError as error:
            text = f"tar: cannot be confined to {printable(target)}: {error.strerror or error}\n"
            os.write(2, text.encode("utf-8", "backslashreplace"))
            os._exit(126)

    return call


def probe_confinement(target: str) -> bool:
    """Tell, by trying, whether this host lets a child be confined to ``target``, which has to be there."""
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
