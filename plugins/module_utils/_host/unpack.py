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

# What tar says with --block-number where the archive ends.
ARCHIVE_END = re.compile(r"block \d+: \*\* (?:Block of NULs|End of File) \*\*")


def member_name(path: str) -> str:
    """Return the bare name of a member that a person calls ``etc/passwd``, ``/etc/passwd`` or ``./etc/``.

    The empty string stands for all there is. Raises TargetError.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TargetError(f"{escaped(path)}: the path of a file in a backup cannot hold '..': give it without")
    return "/".join(parts)


def member_names(members: Iterable[str]) -> list[str]:
    """Return bare names, each once, without those below another of them; none at all stands for all there is.

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
        "--quoting-style=escape",  # whatever a name holds, it is told in one line
        "--no-wildcards",
        "--no-unquote",  # or a backslash in a member's name would be taken for an escape
    ]


def _naming(members: Iterable[str]) -> list[str]:
    return ["--", *(spelling for name in member_names(members) for spelling in spellings(name))]


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
