# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The archive: GNU tar's arguments, the length it will have, and what tar's end means.

One argument list serves measuring and sending, so that what is measured is what is sent.
Runs on the host whose directory is saved: Python 3.8, standard library only.

"""

from __future__ import annotations

import os
import re
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import GLOBAL_HEADER_OPTION
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import RECORD_BYTES, TAR_BLOCK
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status

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
