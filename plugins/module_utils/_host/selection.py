# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The selection: what is left out of the archive. Patterns as users write them, and the arguments that tar takes.

docs/filters.md has the rules for users. No I/O but in ``read_patterns``. Runs on the host whose directory is saved:
Python 3.8, standard library only.

A selection is a plain dictionary, since modules pass it on to others: ``exclude`` (the patterns as they were given),
``exclude_caches``, ``one_file_system``, ``left_out`` (paths whose contents are left out by default), and what follows
from them for tar: ``anchored`` and ``floating`` patterns.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError

PATTERNS_LENGTH = 256 * 1024  # together, in characters; a program's arguments may have 2 MiB (execve(2), _STK_LIM)
RECORDED_LENGTH = 8 * 1024  # of them, in the manifest, in bytes of JSON

# Directories of / that each boot makes anew. In /proc/kcore tar would read the kernel's memory.
VOLATILE = ("/dev", "/proc", "/run", "/sys")
# Filesystems without files, which the kernel makes up: a chroot, for example, has a /proc of its own.
# fmt: off
KERNEL = frozenset((
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
    "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
))
# fmt: on
_FOREIGN = re.compile(r"!|(?:fm|sh|re|pp|pf):")


# ---- what users write ----------------------------------------------------------------------------------------------


def parse_patterns(text: str) -> list[str]:
    """Return the patterns in a file's text: one a line, without those that are empty or begin with ``#``."""
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def read_patterns(path: str) -> list[str]:
    """Return the patterns in a file.

    :raises SourceError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return parse_patterns(file.read())
    except OSError as error:
        raise SourceError(f"the patterns in {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SourceError(f"the patterns in {path} are not UTF-8: write ? for a byte that is no character") from None


def _component_matches(pattern: str, name: str) -> bool:
    """Return whether one component of a pattern matches a directory's name, by the rules of fnmatch(3)."""
    python = re.sub(r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], pattern)
    return fnmatch.fnmatchcase(name, python.replace("[^", "[!"))


def _components(pattern: str) -> list[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SourceError(f"the pattern {pattern} holds '..', which no saved file's path does: write it without")
    while parts[1:] and parts[0] == "**":  # a pattern without a leading slash matches at any depth anyway
        del parts[0]
    if parts[1:] and parts[-1] == "**":
        parts[-1] = "*"
    if any("**" in part for part in parts):
        raise SourceError(
            f"the pattern {pattern} has '**' where that cannot be: it may stand for directories at the beginning or "
            "at the end, as in **/name and name/**"
        )
    return parts


def _floating(parts: Sequence[str], pattern: str) -> list[str]:
    """Return tar's patterns for one that may match at any depth.

    tar also matches them with the leading ``.`` of ``./name``, so ``.*`` would leave out everything.

    :raises SourceError: the pattern matches the directory itself.
    """
    first, rest = parts[0], "".join("/" + part for part in parts[1:])
    safe = {
        "*": ["[!.]*", ".?*"],
        "?*": ["[!.]*", ".?*"],
        "*?": ["[!.]*", ".?*"],
        "?": ["[!.]"],
        ".*": [".?*"],
        "*.*": ["?*.*", "*.?*"],
        "*.": ["?*."],
    }.get(first, [first])
    if any(_component_matches(one, ".") for one in safe):
        raise SourceError(f"the pattern {pattern} matches '.', the directory itself: write it so that it does not")
    return [one + rest for one in safe]


def _below(parts: Sequence[str], directory: str) -> list[str] | None:
    """Return the part of an absolute pattern that is below ``directory``; None if it cannot match anything there."""
    above = [part for part in directory.split("/") if part]
    if len(parts) < len(above) and all(map(_component_matches, parts, above)):
        return []
    if not all(map(_component_matches, parts, above)):
        return None
    return list(parts[len(above) :])


def translate(pattern: str, directories: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return tar's (anchored, floating) patterns for one that a user wrote; both are empty if it can match nothing.

    :param directories: the absolute names of the directory.
    :raises SourceError: the pattern is not valid, or would leave out everything.
    """
    if "\0" in pattern or not pattern.strip("/"):
        raise SourceError(f"{pattern!r} is no pattern: to leave everything out, write *")
    foreign = _FOREIGN.match(pattern)
    if foreign:
        raise SourceError(
            f"the pattern {pattern} begins with {foreign[0]}, which has no meaning here: write it without, or with a "
            "backslash in front if a name begins so"
        )
    expanded = os.path.expanduser(pattern) if pattern.startswith("~/") else pattern
    parts = _components(expanded)
    if not parts:
        raise SourceError(f"the pattern {pattern} leaves out everything there is: to leave the contents out, write *")
    if not expanded.startswith(("/", "./")) or expanded.startswith(("/**/", "./**/")):
        return [], _floating(parts, pattern)
    if expanded.startswith("./"):
        return ["./" + "/".join(parts)], []
    for directory in directories:
        rest = _below(parts, directory)
        if rest:
            return ["./" + "/".join(rest)], []
        if rest is not None:
            raise SourceError(f"the pattern {pattern} leaves out everything there is in {directory}")
    return [], []


# ---- what is left out by default -----------------------------------------------------------------------------------


def escape(path: str) -> str:
    """Return a pattern that matches this name only."""
    return re.sub(r"[\\*?\[]", r"\\\g<0>", path)


def relative(path: str, directory: str) -> str:
    """Return the name in the archive of a path below ``directory``, or an empty string. Both are real paths."""
    top = directory.rstrip("/") + "/"
    return "./" + path[len(top) :] if path.startswith(top) and path != top else ""


def volatile(directory: str, mounts: Iterable[Any]) -> list[str]:
    """Return the directories below ``directory``, a real path, that the kernel makes up or a boot makes anew.

    :param mounts: as from ``read_mounts``.
    """
    found = list(VOLATILE) if directory == "/" else []
    for path in sorted({mount.path for mount in mounts if mount.kind in KERNEL}):
        if relative(path, directory) and not any(path == other or path.startswith(other + "/") for other in found):
            found.append(path)
    return found


# ---- a selection ----------------------------------------------------------------------------------------------------


def select(
    directory: str,
    exclude: Iterable[str] = (),
    caches: bool = False,
    one_file_system: bool = False,
    mounts: Iterable[Any] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Return the selection, and the patterns that can match nothing below ``directory``.

    :param directory: absolute; a pattern may name it by its real path too.
    :param exclude: the patterns.
    :param caches: leave out the contents of directories with a CACHEDIR.TAG.
    :param mounts: as from ``read_mounts``.
    :raises SourceError: a pattern is not valid, or there are too many.
    """
    real = os.path.realpath(directory)
    patterns = list(dict.fromkeys(exclude))
    if sum(map(len, patterns)) > PATTERNS_LENGTH:
        raise SourceError(f"the patterns have more than {PATTERNS_LENGTH} characters: use fewer, with wildcards")
    left_out = volatile(real, mounts)
    anchored = [escape(relative(path, real)) + "/*" for path in left_out]
    floating: list[str] = []
    idle = []
    for pattern in patterns:
        here, anywhere = translate(pattern, [directory, real])
        anchored += here
        floating += anywhere
        if not here and not anywhere:
            idle.append(pattern)
    selection = {
        "exclude": patterns,
        "exclude_caches": caches,
        "one_file_system": one_file_system,
        "left_out": left_out,
        "anchored": anchored,
        "floating": floating,
    }
    return selection, idle


def leave_out(selection: Mapping[str, Any], directory: str, paths: Iterable[str]) -> dict[str, Any]:
    """Return a selection that also leaves out those of ``paths`` that are below ``directory``."""
    names = [relative(os.path.realpath(path), os.path.realpath(directory)) for path in paths if path]
    return dict(selection, anchored=[*selection.get("anchored", ()), *(escape(name) for name in names if name)])


def arguments(selection: Mapping[str, Any]) -> list[str]:
    """Return tar's arguments for a selection. They have to stand in front of the name of the directory.

    ``*`` and ``?`` do not match a slash: a pattern that is too narrow only makes the backup larger, one that is too
    wide leaves out files that were meant to be saved. tar does not warn of what was left out on purpose.
    """
    found = ["--no-wildcards-match-slash"] if selection.get("anchored") or selection.get("floating") else []
    if selection.get("anchored"):
        found += ["--anchored", *("--exclude=" + pattern for pattern in selection["anchored"])]
    if selection.get("floating"):
        found += ["--no-anchored", *("--exclude=" + pattern for pattern in selection["floating"])]
    if selection.get("exclude_caches"):
        found += ["--exclude-caches", "--warning=no-cachedir"]
    if selection.get("one_file_system"):
        found += ["--one-file-system", "--warning=no-xdev"]
    return found


def record(selection: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a selection as the manifest records it: as many patterns as fit. None if nothing was left out."""
    patterns = list(selection.get("exclude", ()))
    left_out = list(selection.get("left_out", ()))
    caches, one = bool(selection.get("exclude_caches")), bool(selection.get("one_file_system"))
    if not (patterns or left_out or caches or one):
        return None

    return {
        "exclude": _fitting(patterns, RECORDED_LENGTH),
        "exclude_count": len(patterns),
        "exclude_caches": caches,
        "one_file_system": one,
        "left_out": _fitting(left_out, RECORDED_LENGTH // 8),
    }


def _fitting(texts: list[str], room: int) -> list[str]:
    for count, text in enumerate(texts):
        room -= len(json.dumps(text)) + 1
        if room < 0:
            return texts[:count]
    return texts
