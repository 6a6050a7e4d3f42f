# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory that is restored to: whether it is fit, and whether tar has to be confined to it.

GNU tar itself refuses ".." in names, strips absolute ones, and makes symbolic links that lead out of the target last.
That is enough for a target that was empty; but tar follows links that were there before (CVE-2025-45582). So where that
is possible the kernel protects everything outside of the target too: ``confine``.

Runs on the host that is restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import heapq
import os
import stat
import tempfile

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.confine import probe_confinement
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import escaped, listed


def check_target(path: str, force: bool = False) -> str:
    """Return the target's real, absolute path. It may be absent, if it can be made (``make_target``).

    :param force: it need not be empty.
    :raises TargetError: nothing can be restored to there.
    """
    if not path:
        raise TargetError("no target was given: name a directory that is empty or does not exist")
    real = os.path.realpath(os.path.expanduser(path))
    name = escaped(real)
    try:
        mode = os.lstat(real).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(os.path.abspath(os.path.expanduser(path))):
            raise TargetError(
                f"{escaped(path)} is a symbolic link to {name}, which does not exist: make it, or name a directory"
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
            f"{name} is not empty (it holds {listed(first, count)}): use --force (ec2_backup_restore_force)"
        )
    return real


def _check_parent(real: str) -> None:
    parent = os.path.dirname(real)
    name = escaped(parent)
    try:
        mode = os.stat(parent).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(f"{escaped(real)} cannot be made: there is no {name}: make that first") from None
    except OSError as error:
        raise TargetError(f"{escaped(real)} cannot be made: {name}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise TargetError(f"{escaped(real)} cannot be made: {name} is not a directory")
    _check_writable(parent)


def _check_writable(directory: str) -> None:
    name = escaped(directory)
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise TargetError(f"{name} is on a filesystem that is mounted read-only: name a directory on another")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise TargetError(f"{name}: permission denied: it has to be writable for the user the restore runs as")


def _content(directory: str) -> tuple[list[str], int]:
    """Return the first two names in a directory, and their number; a new filesystem's lost+found is not counted."""
    names = os.listdir(directory)
    if names == ["lost+found"] and os.path.ismount(directory):
        return [], 0
    return [escaped(name) for name in heapq.nsmallest(2, names)], len(names)


def make_target(path: str) -> bool:
    """Make the target with mode 0700, until the archive changes that. Return whether it had to be made.

    :raises TargetError: it cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise TargetError(f"{escaped(path)} cannot be made: {error.strerror}") from None
    return True


def leaves(link: str, depth: int, target: str) -> bool:
    """Return whether a symbolic link could lead out of the target.

    Only its text is examined, because directories on its way may be replaced while the archive is unpacked. ``..``
    after
    a name counts as leading out: the name can become a link to elsewhere. If no link in the target leads out by this
    rule, none of those that tar makes before the end (relative, without ``..``) leads out through them either.

    :param link: what it points to.
    :param depth: how many directories below ``target`` the link is.
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
    """Return symbolic links in ``target`` (paths below it) that could lead out of it.

    A directory that cannot be read is returned too.

    :param limit: how many at most.
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
    """Return an existing directory, for which confining is tried in place of a target that does not exist yet."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.getcwd()


def plan_extraction(target: str, force: bool = False) -> bool:
    """Return whether tar has to be confined to the target.

    Root is confined wherever the kernel allows that: it costs nothing. A plain user needs a user namespace for it, in
    which
    ACLs that name others, and groups besides the first, cannot be restored: so only if tar's own protection would not
    be
    enough.

    :param target: the path that ``check_target`` returned.
    :param force: as for ``check_target``.
    :raises TargetError: tar must not run at all.
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
        f"{escaped(target)} holds symbolic links that lead out of it, or directories that cannot be searched for "
        f"them ({', '.join(map(escaped, links))}), and this host does not allow to confine tar to it: restore into "
        "an empty directory, or remove them"
    )
