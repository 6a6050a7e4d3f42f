# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keeping the logs of failed runs, and removing old ones."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

KEPT = 20
KEPT_BYTES = 20 << 20  # of all logs together; the newest is kept whatever its size
# A run's ID and its playbook. Other files in the directory are not touched.
NAME = re.compile(r"\d{8}t\d{6}z-[0-9a-f]{8}-[a-z]+\.log")


def directory(environment: Mapping[str, str]) -> Path | None:
    """Return ``$XDG_STATE_HOME/ec2-backup/log``, or its default; None for a user without a home.

    The default is that of the XDG base directory specification.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the specification says to ignore a relative path
        base = os.path.expanduser("~/.local/state")
    return Path(base) / "ec2-backup" / "log" if os.path.isabs(base) else None


def surplus(logs: Iterable[tuple[str, float, int]]) -> list[str]:
    """Return the names of the logs to remove.

    :param logs: for each log its name, the time of its last change, and its bytes.
    """
    gone, total = [], 0
    for number, (name, _, size) in enumerate(sorted(logs, key=lambda log: (log[1], log[0]), reverse=True)):
        total += size
        if number and (number >= KEPT or total > KEPT_BYTES):
            gone.append(name)
    return gone


def rotate(where: Path) -> None:
    """Remove the oldest logs if there are too many. Another run may do so at the same time.

    :raises OSError: the directory cannot be read.
    """
    logs = []
    with os.scandir(where) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another run has removed it
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    logs.append((entry.name, found.st_mtime, found.st_size))
    for name in surplus(logs):
        with contextlib.suppress(OSError):
            (where / name).unlink()


def keep(output: Path, name: str, environment: Mapping[str, str]) -> Path | None:
    """Copy Ansible's output to a place where it outlives the run. Errors are ignored.

    :param name: the run's ID, a dash, and the playbook's name.
    :returns: the copy; None if there is none.
    """
    where = directory(environment)
    if where is None:
        return None
    kept = where / f"{name}.log"
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            kept.unlink()
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        with open(descriptor, "wb") as target, output.open("rb") as source:
            shutil.copyfileobj(source, target)
    except OSError:
        with contextlib.suppress(OSError):
            kept.unlink()
        return None
    with contextlib.suppress(OSError):
        rotate(where)
    return kept
