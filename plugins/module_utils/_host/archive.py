# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive: GNU tar's arguments, the length it will have, and what tar's end means.

One argument list serves measuring and sending, so that what is measured is what is sent.
Runs on the host whose directory is saved: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Iterable, Iterator, Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import GLOBAL_HEADER_OPTION

RECORD_BYTES = 1024 * 1024  # tar pads the archive to a multiple of this; also dd's block size
TAR_BLOCK = 512
MINIMUM_TAR = (1, 28)  # the first with --sort; all other options are older
MAX_WARNINGS = 1000

# Per-file findings: the archive is whole, but not all that was asked for is in it as it was.
_PER_FILE = re.compile(
    r": (?:Warning: )?(?:"
    r"file changed as we read it"
    r"|File removed before we read it"
    r"|File shrank by .*padding with zeros"
    r"|Read error at byte .*"
    r"|Cannot (?:open|stat|read|readlink|readlinkat|savedir|close|seek|llistxattrat|lgetxattrat|getxattr"
    r"|acl_get_file_at|acl_get_fd|lgetfileconat|fgetfilecon)\b.*"
    r"|Unknown file type; file ignored"
    r"|file is on a different filesystem.*"
    r")$"
)
_WRITE_SIDE = re.compile(r"^tar: (?:-|/dev/null): (?:Cannot|Wrote|Write)")
# Said once each by a tar that was built without the feature (xattrs.c): of the tool, not of the files.
_TOOL = re.compile(r"^tar: (?:XATTR|POSIX ACL|SELinux) support is not (?:available|requested)")
_HARMLESS = re.compile(r": socket ignored$|: door ignored$|^Total bytes written: |Exiting with failure status due to")
_TOTALS = re.compile(rb"^Total bytes written: (\d+)", re.MULTILINE)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for tar: English messages, and no options but ours.

    In the C locale GNU tar passes names through as bytes, and quotes them (C escapes) in messages, so a
    message is always one line of ASCII.
    """
    kept = {
        key: value for key, value in environment.items() if key not in ("TAR_OPTIONS", "POSIXLY_CORRECT", "LANGUAGE")
    }
    kept["LC_ALL"] = "C"
    return kept


def tar_arguments(directory: str, output: str, measuring: bool = False, selection: Sequence[str] = ()) -> list[str]:
    """Return tar's whole argv for an archive of ``directory`` written to ``output``.

    ``selection``: arguments that leave something out (``selection.arguments``).

    ``measuring`` goes with ``--file=/dev/null``, for which tar skips file data, except (seen, 1.34) that of
    sparse files, which it reads in 512-byte pieces. So measuring leaves ``--sparse`` out, and what the holes save is
    taken off afterwards, for the files that tar names on its stdout; and it counts in single blocks, because the
    padding has to come last.
    """
    return [
        "tar",
        "--create",
        "--file=" + output,
        "--directory=" + directory,
        "--format=posix",
        *([] if measuring else ["--sparse"]),
        "--sort=name",
        "--xattrs",
        "--acls",
        "--selinux",
        "--numeric-owner",
        # The default header name holds tar's process id, and access times change by reading: neither is the data.
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime," + GLOBAL_HEADER_OPTION,
        # What cannot be read becomes a warning, so that exit status 2 keeps to what really ended the archive.
        "--ignore-failed-read",
        f"--blocking-factor={1 if measuring else RECORD_BYTES // TAR_BLOCK}",
        *(["--totals", "--verbose", "--quoting-style=escape"] if measuring else []),
        *selection,
        ".",
    ]


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor) from ``tar --version``, or None if that is not GNU tar."""
    found = re.match(r"tar \(GNU tar\) (\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def parse_totals(stderr: bytes) -> int | None:
    """Return the bytes that ``--totals`` reports, or None."""
    found = _TOTALS.search(stderr)
    return int(found.group(1)) if found else None


def classify_line(line: str) -> str:
    """Return what a line of tar's stderr is: ``file``, ``tool``, ``harmless``, or ``other`` (fatal or unknown)."""
    if _TOOL.search(line):
        return "tool"
    if _HARMLESS.search(line):
        return "harmless"
    if _WRITE_SIDE.search(line) or not _PER_FILE.search(line):
        return "other"
    return "file"


class TarLog:
    """What tar said, line by line, in bounded memory: the first MAX_WARNINGS per-file lines, and a count of all."""

    def __init__(self, limit: int = MAX_WARNINGS) -> None:
        self.limit = limit
        self.warnings: list[str] = []
        self.warnings_count = 0
        self.notices: list[str] = []
        self.other: list[str] = []
        self.total: int | None = None

    def feed(self, line: str) -> None:
        """Take one line of stderr, without its newline."""
        if line.startswith("Total bytes written: "):
            self.total = parse_totals(line.encode("ascii", "replace"))
            return
        kind = classify_line(line)
        text = line[5:] if line.startswith("tar: ") else line
        if kind == "file":
            self.warnings_count += 1
            if len(self.warnings) < self.limit:
                self.warnings.append(text.replace("Warning: ", "", 1))
        elif kind == "tool" and len(self.notices) < 10:
            self.notices.append(text)
        elif kind == "other" and len(self.other) < 20:
            self.other.append(text)

    def findings(self) -> tuple[list[str], int]:
        """Return what has to be told of a complete archive: the lines that were kept, and how many there were.

        A line we do not know, of a tar that says it succeeded, is told rather than swallowed.
        """
        return self.warnings + self.other, self.warnings_count + len(self.other)


def describe_status(name: str, returncode: int) -> str:
    """Return a process's bad end in words."""
    if returncode < 0:
        try:
            return f"{name} was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"{name} was killed by signal {-returncode}"
    return f"{name} ended with status {returncode}"


def tar_failure(returncode: int, log: TarLog) -> str | None:
    """Return why there is no complete archive, in one line, or None if there is one (perhaps with warnings).

    0 and 1 mean a complete archive (1: a file changed while it was read). With --ignore-failed-read an unreadable
    file gives 0 too. 2 is a failure, unless all tar had to complain of are single files (older releases do not apply
    the option everywhere) and it went on to the end.
    """
    if returncode in (0, 1):
        return None
    if returncode < 0:
        return describe_status("tar", returncode)
    if returncode == 2 and not log.other and log.warnings_count:
        return None
    causes = [line for line in log.other if "not recoverable" not in line] or log.other or log.warnings[-1:]
    return "{}: {}".format(describe_status("tar", returncode), causes[0] if causes else "it gave no reason")


# ---- the length of sparse files -------------------------------------------------------------------------------------


def round_up(number: int, unit: int) -> int:
    """Return the smallest multiple of ``unit`` that is not below ``number``."""
    return -(-number // unit) * unit


def sparse_saving(size: int, regions: Iterable[tuple[int, int]], name_bytes: int) -> int:
    """Return by how many bytes, at least, --sparse shortens the archive of one file with holes.

    ``regions`` are the (offset, length) with data. GNU sparse format 1.0: a map of decimal numbers, one a line, padded
    to a block; then each region, padded to a block; and more records in the extended header, of which there is taken
    the most they can be (their exact length depends on which of them would be there anyway).
    """
    map_bytes, data, count, end = 0, 0, 0, 0
    for offset, length in regions:
        count += 1
        map_bytes += len(str(offset)) + len(str(length)) + 2
        data += round_up(length, TAR_BLOCK)
        end = offset + length
    if end < size:  # a hole at the end is told by an empty region
        count += 1
        map_bytes += len(str(size)) + 3
    map_bytes += len(str(count)) + 1
    header = TAR_BLOCK + round_up(140 + name_bytes, TAR_BLOCK)
    return max(0, round_up(size, TAR_BLOCK) - (header + round_up(map_bytes, TAR_BLOCK) + data))


def data_regions(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the parts of an open file that are not holes. Raises OSError."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == 6:  # ENXIO: no more data
                return
            raise
        offset = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        yield start, offset - start


_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def unquote(name: bytes) -> bytes:
    """Return the bytes of a name that tar told in its escape style."""

    def restore(found: re.Match[bytes]) -> bytes:
        text = found.group(1)
        return bytes([int(text, 8) & 255]) if len(text) == 3 else _LETTERS.get(text, text)

    return _ESCAPE.sub(restore, name) if b"\\" in name else name


def holes_saved(directory: str, names: Iterable[bytes]) -> int:
    """Return by how many bytes the holes of sparse files shorten the archive of ``directory``.

    ``names``: what tar named of it, a line each: so what is left out saves nothing. Never more than they do: what
    cannot be read saves nothing either.
    """
    saved = 0
    links: set[tuple[int, int]] = set()
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for line in names:
            if line.endswith(b"/\n"):
                continue
            name = unquote(line[:-1])
            try:
                status = os.stat(name, dir_fd=top, follow_symlinks=False)
                if status.st_blocks * 512 >= status.st_size or not stat.S_ISREG(status.st_mode):
                    continue
                if status.st_nlink > 1:  # archived once
                    if (status.st_dev, status.st_ino) in links:
                        continue
                    links.add((status.st_dev, status.st_ino))
                saved += _file_saving(name, top, status.st_size)
            except OSError:
                continue
    finally:
        os.close(top)
    return saved


def _file_saving(name: bytes, top: int, size: int) -> int:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=top)
    try:
        return sparse_saving(size, data_regions(descriptor, size), len(name))
    finally:
        os.close(descriptor)


# ---- the edge: a real directory, a real tar -------------------------------------------------------------------------


class SourceError(Exception):
    """The directory cannot be saved; the text is one line for the person who asked."""


def check_directory(path: str) -> str:
    """Return the absolute form of ``path``, or raise SourceError saying what is wrong with it.

    A symbolic link is kept by name: what it leads to is saved, as with ``LINK/.``.
    """
    if not path:
        raise SourceError("no directory was given")
    absolute = os.path.expanduser(path)
    # Textual removal of ".." would go wrong behind a symbolic link.
    absolute = os.path.realpath(absolute) if ".." in absolute.split(os.sep) else os.path.abspath(absolute)
    try:
        mode = os.stat(absolute).st_mode
    except FileNotFoundError:
        raise SourceError(f"{absolute}: there is no such directory") from None
    except OSError as error:
        raise SourceError(f"{absolute}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise SourceError(f"{absolute} is not a directory")
    if not os.access(absolute, os.R_OK | os.X_OK):
        raise SourceError(
            f"{absolute}: permission denied: it has to be readable and searchable for the user the backup runs as"
        )
    return absolute


def tar_version() -> str:
    """Return GNU tar's version, or raise SourceError if there is none, or none that is new enough."""
    needed = "GNU tar {}.{} or newer is needed on the host whose directory is saved".format(*MINIMUM_TAR)
    try:
        text = subprocess.run(
            ["tar", "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(os.environ),
            check=False,
        ).stdout.decode("utf-8", "replace")
    except OSError:
        raise SourceError(f"{needed}: there is no tar; install the package tar") from None
    version = parse_version(text)
    if version is None or version < MINIMUM_TAR:
        raise SourceError("{}: found {}".format(needed, text.splitlines()[0] if text else "another tar"))
    return "{}.{}".format(*version)


def measure(directory: str, selection: Sequence[str] = ()) -> tuple[int, TarLog]:
    """Return the length in bytes of the archive of ``directory``, without reading file data, and what tar said.

    It is exact for a directory that stays as it is, save that for files with holes it can be some hundred bytes each
    too high (never too low), and that files which cannot be read are counted. Raises SourceError.
    ``selection``: as for ``tar_arguments``.
    """
    log = TarLog()
    tar = subprocess.Popen(
        tar_arguments(directory, "/dev/null", measuring=True, selection=selection),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(os.environ),
    )
    with tar:
        assert tar.stdout is not None
        assert tar.stderr is not None

        def hear(stderr: IO[bytes]) -> None:
            for line in stderr:
                log.feed(line.decode("utf-8", "replace").rstrip("\n"))

        hearing = threading.Thread(target=hear, args=(tar.stderr,), daemon=True)
        hearing.start()
        try:
            saved = holes_saved(directory, tar.stdout)
        except OSError as error:
            tar.kill()
            raise SourceError(f"{directory}: {error.strerror}") from None
        hearing.join()
    reason = tar_failure(tar.returncode, log)
    if reason is None and log.total is None:
        reason = "tar did not tell its total"
    if reason is not None or log.total is None:
        raise SourceError(f"{directory} cannot be archived: {reason}")
    return round_up(log.total - saved, RECORD_BYTES), log
