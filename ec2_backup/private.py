# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The private directory of a run: its keys, its variables, Ansible's files. It goes when the run goes.

A run that is killed cannot remove its own, so each run removes those of dead ones: they are told by a lock, which the
kernel lets go of when its holder is gone, and by no process of theirs (an Ansible that outlived us, say) being there.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ec2_backup import processes

PREFIX = "ec2-backup-"
LOCK = "lock"
TEMPORARY = "tmp"  # the TMPDIR of the processes of a run


def remove_dead(base: Path) -> None:
    """Remove the directories below ``base`` whose runs are dead; only this user's, and only those that have a lock."""
    for directory in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, somebody else's, or somebody else removes it too
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            with (directory / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not processes.carrying("TMPDIR", str(directory / TEMPORARY)):
                    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory, mode 0700, below ``$TMPDIR`` or where Python thinks best.

    :raises OSError: it cannot be made.
    """
    remove_dead(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        unlocked = directory / f"{LOCK}.new"
        with unlocked.open("wb") as lock:  # not inherited by the processes that are started meanwhile
            fcntl.flock(lock, fcntl.LOCK_EX)
            unlocked.rename(directory / LOCK)  # it is locked from the first moment that another run may see it
            (directory / TEMPORARY).mkdir(mode=0o700)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
