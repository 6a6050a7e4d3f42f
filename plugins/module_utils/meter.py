# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The progress of a stream, written to a small file that another process reads while the module still runs.

Ansible returns results only at a task's end. A process that wants the progress makes an empty file and names it in the
environment variable EC2_BACKUP_PROGRESS; without that variable nothing is written. Used by the wrapper, and on the host
whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import stat
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, Tuple

    Count = Tuple[Optional[int], int]

VARIABLE = "EC2_BACKUP_PROGRESS"
INTERVAL = 0.25  # seconds
UNKNOWN = -1


def encode(taken: int | None, moved: int) -> bytes:
    """Return the file's content: the same line twice, always of the same length, which replaces the last in one write.

    :param taken: bytes of the archive so far, None if not known.
    :param moved: bytes that went over SSH so far.
    """
    line = b"%020d %020d\n" % (UNKNOWN if taken is None else taken, moved)
    return line + line


def decode(content: bytes) -> Count | None:
    """Return the counts in a file's content; None for content that was read in mid-write, and for an empty file."""
    line, again = content[: len(content) // 2], content[len(content) // 2 :]
    try:
        taken, moved = (int(number) for number in line.split())
    except ValueError:
        return None
    return (None if taken == UNKNOWN else taken, moved) if line == again else None


def read(path: str | os.PathLike[str]) -> Count | None:
    """Return what ``decode`` makes of the file's content; None if the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return decode(file.read(1024))
    except OSError:
        return None


def written_by(pid: int) -> int | None:
    """Return the bytes that a process has written so far, as the kernel counts them; None if it does not say."""
    try:
        with open(f"/proc/{pid}/io") as counters:
            for line in counters:
                name, _, number = line.partition(":")
                if name == "wchar":
                    return int(number)
    except (OSError, ValueError):
        pass
    return None


class Meter:
    """Calls ``count`` four times a second and writes what it returns.

    Without EC2_BACKUP_PROGRESS it does nothing. It stops without an error if writing fails: it must not end a stream.

    :param count: returns the bytes of the archive (None if not known), and the bytes over SSH.
    """

    def __init__(self, count: Callable[[], Count], path: str | None = None) -> None:
        self.count, self.path = count, path or os.environ.get(VARIABLE)
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if EC2_BACKUP_PROGRESS names a regular file that is there."""
        if not self.path:
            return
        try:
            # Without O_CREAT, and with O_NOFOLLOW: if the variable names anything else, that is left unchanged.
            self.file = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        if not stat.S_ISREG(os.fstat(self.file).st_mode):
            os.close(self.file)
            return
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.over.wait(INTERVAL):
                os.pwrite(self.file, encode(*self.count()), 0)
            os.ftruncate(self.file, 0)  # so that the next stream does not begin with the numbers of this one
        except OSError:
            pass
        finally:
            os.close(self.file)

    def stop(self) -> None:
        """End; may be called any number of times, and without ``start``."""
        self.over.set()
        if self.thread is not None:
            self.thread.join()
