# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a stream is, told to another process while the module that moves it still runs: by a small file.

Ansible hands results back at a task's end only. So who wants to know more makes an empty file and names it in the
environment variable EC2_BACKUP_PROGRESS; without that nothing is told. Runs on the host whose directory is saved or
restored to: Python 3.8, standard library only.
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
    """The file's content: twice the same line of always the same length, written over the last in one call.

    ``taken``: bytes of the archive so far, None if not known; ``moved``: bytes that went over SSH so far.
    """
    line = b"%020d %020d\n" % (UNKNOWN if taken is None else taken, moved)
    return line + line


def decode(content: bytes) -> Count | None:
    """Undo ``encode``; None for what was caught half written, and for a file that nobody has written to."""
    line, again = content[: len(content) // 2], content[len(content) // 2 :]
    try:
        taken, moved = (int(number) for number in line.split())
    except ValueError:
        return None
    return (None if taken == UNKNOWN else taken, moved) if line == again else None


def read(path: str | os.PathLike[str]) -> Count | None:
    """What the file says, as ``decode``; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return decode(file.read(1024))
    except OSError:
        return None


def written_by(pid: int) -> int | None:
    """The bytes that a process has written so far, by the kernel's count; None where that is not told."""
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
    """Asks ``count`` for (bytes of the archive or None, bytes over SSH) and writes them down, four times a second.

    Does nothing if nobody asked for it, and gives up silently if that fails: it must never break a stream.
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
            # Never made, never followed: whatever else the variable names stays as it is.
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
            os.ftruncate(self.file, 0)  # the next stream's reader must not take this one's numbers for its own
        except OSError:
            pass
        finally:
            os.close(self.file)

    def stop(self) -> None:
        """End; may be called any number of times, and without ``start``."""
        self.over.set()
        if self.thread is not None:
            self.thread.join()
