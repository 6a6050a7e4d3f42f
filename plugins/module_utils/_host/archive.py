# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Making the archive: GNU tar's arguments, what its messages mean, and whether the archive is complete.

Measuring and sending use the same arguments, so that the length that is measured is the length that is sent.
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

# Messages about single files: the archive is complete, but such a file is missing in it, or changed meanwhile.
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
# Messages of a tar that was built without a feature, once each (xattrs.c): they concern no single file.
_TOOL = re.compile(r"^tar: (?:XATTR|POSIX ACL|SELinux) support is not (?:available|requested)")
_HARMLESS = re.compile(r": socket ignored$|: door ignored$|^Total bytes written: |Exiting with failure status due to")
_TOTALS = re.compile(rb"^Total bytes written: (\d+)", re.MULTILINE)


def tar_arguments(directory: str, output: str, measuring: bool = False, selection: Sequence[str] = ()) -> list[str]:
    """Return tar's whole argv for an archive of ``directory`` written to ``output``.

    To /dev/null tar skips file data, except that of sparse files, which it reads in 512-byte pieces (seen, 1.34). So
    measuring omits ``--sparse``, and has tar print the names, from which the bytes that holes save are computed and
    subtracted. It counts in single blocks, because padding is added after that.

    :param measuring: the archive is only measured, and ``output`` is /dev/null.
    :param selection: arguments that leave files out (``selection.arguments``).
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
        # The default header name contains tar's process id, and reading changes access times: leave both out.
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime," + GLOBAL_HEADER_OPTION,
        # A file that cannot be read becomes a warning, so that exit status 2 means that the archive is incomplete.
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
    """Return the kind of a line of tar's stderr: ``file``, ``tool``, ``harmless``, or ``other`` (fatal or unknown)."""
    if _TOOL.search(line):
        return "tool"
    if _HARMLESS.search(line):
        return "harmless"
    if _WRITE_SIDE.search(line) or not _PER_FILE.search(line):
        return "other"
    return "file"


class TarLog:
    """tar's messages in bounded memory: the first MAX_WARNINGS about single files, and how many there were."""

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
        """Return the warnings about a complete archive: the lines that were kept, and how many there were.

        A line that we do not know, of a tar that succeeded, counts as a warning.
        """
        return self.warnings + self.other, self.warnings_count + len(self.other)


def tar_failure(returncode: int, log: TarLog) -> str | None:
    """Return in one line why the archive is not complete, or None if it is (there may be warnings).

    0 and 1 mean a complete archive (1: a file changed while it was read). With --ignore-failed-read an unreadable
    file gives 0 too. 2 is a failure, unless all messages are about single files (older releases do not apply the
    option everywhere).
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
    """Return the absolute form of ``path``, a directory that can be read.

    A symbolic link keeps its name; the directory that it leads to is saved, as with ``LINK/.``.

    :raises SourceError: it is no such directory.
    """
    if not path:
        raise SourceError("no directory was given")
    absolute = os.path.expanduser(path)
    # Removing ".." from the text alone would be wrong behind a symbolic link.
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
