# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The private directory of a run, with its keys, its variables and Ansible's files. It is removed when the run ends.

A run that is killed cannot remove its directory, so each run removes those of dead runs. A run is dead if the lock of
its directory is free, as the kernel releases it at the holder's death, and if no process uses the directory: for
instance an Ansible that has outlived the wrapper.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ec2_backup.run import processes

PREFIX = "ec2-backup-"
LOCK = "lock"
TEMPORARY = "tmp"  # the TMPDIR of the processes of a run


def remove_dead(base: Path) -> None:
    """Remove the directories of dead runs below ``base``: only this user's, and only those that have a lock."""
    for directory in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, or another user's, or another run removes it too
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            with (directory / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not processes.carrying("TMPDIR", str(directory / TEMPORARY)):
                    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """Make a new directory, mode 0700, in Python's default place for temporary files (``$TMPDIR``), for this context.

    :raises OSError: it cannot be made.
    """
    remove_dead(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        unlocked = directory / f"{LOCK}.new"
        with unlocked.open("wb") as lock:  # Python keeps it from being inherited by processes
            fcntl.flock(lock, fcntl.LOCK_EX)
            unlocked.rename(directory / LOCK)  # so it is locked before another run can see it
            (directory / TEMPORARY).mkdir(mode=0o700)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
