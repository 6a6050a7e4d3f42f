# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a directory is left out of its archive: patterns as people write them, and the arguments that tar takes.

docs/filters.md has the rules for people. No I/O but ``read_patterns``. Runs on the host whose directory is saved:
Python 3.8, standard library only.

A selection is a plain dictionary, since it goes from one module to another: ``exclude`` (the patterns as they were
given), ``exclude_caches``, ``one_file_system``, ``left_out`` (paths whose contents were left out unasked), and what
follows from them for tar, ``anchored`` and ``floating``.
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

# What in / is made anew by each boot. tar would read the kernel's memory by /proc/kcore.
VOLATILE = ("/dev", "/proc", "/run", "/sys")
# Filesystems that hold no files, but what the kernel has to say: a chroot has a /proc of its own.
# fmt: off
KERNEL = frozenset((
    "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
    "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
))
# fmt: on
_FOREIGN = re.compile(r"!|(?:fm|sh|re|pp|pf):")


# ---- what people write ----------------------------------------------------------------------------------------------


def parse_patterns(text: str) -> list[str]:
    """Return the patterns in a file's text: one a line, without those that are empty or begin with ``#``."""
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def read_patterns(path: str) -> list[str]:
    """Return the patterns in a file. Raises SourceError."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return parse_patterns(file.read())
    except OSError as error:
        raise SourceError(f"the patterns in {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SourceError(f"the patterns in {path} are not UTF-8: write ? for a byte that is no character") from None


def _component_matches(pattern: str, name: str) -> bool:
    """Tell whether one component of a pattern matches a directory's name, as fnmatch(3) would."""
    python = re.sub(r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], pattern)
    return fnmatch.fnmatchcase(name, python.replace("[^", "[!"))


def _components(pattern: str) -> list[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SourceError(f"the pattern {pattern} holds '..', which no saved file's path does: write it without")
    while parts[1:] and parts[0] == "**":  # what has no slash in front matches at any depth anyway
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

    tar tries them on the leading "." of ``./name`` too; so ``.*`` would leave out everything there is.
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
    """Return what of an absolute pattern is left below ``directory``; None if it cannot match anything there."""
    above = [part for part in directory.split("/") if part]
    if len(parts) < len(above) and all(map(_component_matches, parts, above)):
        return []
    if not all(map(_component_matches, parts, above)):
        return None
    return list(parts[len(above) :])


def translate(pattern: str, directories: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return tar's (anchored, floating) patterns for one that a person wrote; neither if it can match nothing.

    ``directories``: the names, absolute, by which the directory is known. Raises SourceError.
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


# ---- what is left out unasked ---------------------------------------------------------------------------------------


def escape(path: str) -> str:
    """Return a pattern that matches just this name."""
    return re.sub(r"[\\*?\[]", r"\\\g<0>", path)


def relative(path: str, directory: str) -> str:
    """Return the name in the archive of a path below ``directory``; empty if it is not there. Both are real."""
    top = directory.rstrip("/") + "/"
    return "./" + path[len(top) :] if path.startswith(top) and path != top else ""


def volatile(directory: str, mounts: Iterable[Any]) -> list[str]:
    """Return the directories below ``directory``, a real path, that are the kernel's or do not outlast a boot.

    ``mounts``: objects with ``path`` and ``kind``, as in /proc/self/mountinfo.
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
    """Return the selection, and those patterns that can match nothing below ``directory``. Raises SourceError.

    ``directory`` is absolute; a pattern may name it by its real path as well.
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
    """Return a selection without these directories, too, where they are below ``directory``: our own."""
    names = [relative(os.path.realpath(path), os.path.realpath(directory)) for path in paths if path]
    return dict(selection, anchored=[*selection.get("anchored", ()), *(escape(name) for name in names if name)])


def arguments(selection: Mapping[str, Any]) -> list[str]:
    """Return tar's arguments for a selection. They count for what follows them: the name of what to archive.

    ``*`` and ``?`` do not match a slash: a pattern that is too narrow makes a larger backup, one that is too wide makes
    one that lacks something. What was left out on purpose is no warning.
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
    """Return what the manifest says of a selection, None if nothing was left out: as many patterns as fit."""
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
