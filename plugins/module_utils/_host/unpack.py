# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GNU tar's arguments for reading an archive from its stdin: to unpack, list or compare it.

Runs on the host that is restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import escaped

BLOCKING_FACTOR = 256  # 128 KiB a read: from a pipe nearly twice as fast as tar's own 10 KiB (measured)

# tar's message at the end of the archive, with --block-number.
ARCHIVE_END = re.compile(r"block \d+: \*\* (?:Block of NULs|End of File) \*\*")


def member_name(path: str) -> str:
    """Return a member's name without a leading ``/`` or ``./`` and without a trailing ``/``.

    The empty string stands for the whole archive.

    :param path: the name as a user writes it.
    :raises TargetError: it has a ``..``.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TargetError(f"{escaped(path)}: the path of a file in a backup cannot hold '..': give it without")
    return "/".join(parts)


def member_names(members: Iterable[str]) -> list[str]:
    """Return the members' names (``member_name``), without those below another of them.

    An empty list stands for the whole archive.

    (tar counts a name as found for the first of its arguments only: the other would seem to be missing.)
    """
    names = sorted({member_name(member) for member in members})
    if "" in names:
        return []
    return [name for name in names if not any(name.startswith(other + "/") for other in names)]


def spellings(name: str) -> list[str]:
    """Return a member's name as our archives, older tools (``tar -C / etc``) and ``tar -P`` have it."""
    return ["./" + name, name, "/" + name]


def _reading(action: str) -> list[str]:
    return [
        "tar",
        action,
        "--file=-",
        f"--blocking-factor={BLOCKING_FACTOR}",
        "--numeric-owner",
        "--quoting-style=escape",  # so that every name is printed in one line
        "--no-wildcards",
        "--no-unquote",  # otherwise tar takes a backslash in a member's name for an escape
    ]


def _naming(members: Iterable[str]) -> list[str]:
    return ["--", *(spelling for name in member_names(members) for spelling in spellings(name))]


def extract_arguments(members: Iterable[str] = ()) -> list[str]:
    """Return tar's whole argv to unpack the archive on its stdin into its working directory.

    tar is given each member in every spelling that an archive may have; ``ExtractLog`` ignores that tar does not find
    all
    of them.

    :param members: names as users write them (see ``member_name``); a directory stands for all that is below it; none
        stand for the whole archive.
    """
    return [
        *_reading("--extract"),
        "--same-permissions",
        "--same-owner",  # for a plain user too, so that tar reports what it cannot restore
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

    Each line on stdout is a difference (``./etc/passwd: Mod time differs``); with --verbose there are also the names of
    all members (``Comparison`` distinguishes them). A file that does not exist any more is reported on stderr (``./a:
    Warning: Cannot stat: No such file or directory``). tar compares neither ACLs nor extended attributes, nor the
    times of directories, and does not see files that are new.
    """
    return [*_reading("--compare"), *_naming(members)]
