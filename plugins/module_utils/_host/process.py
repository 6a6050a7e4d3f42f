# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The processes of a pipeline: how they are started, read and ended.

No shell runs a pipeline of ours, so the status of each process is known.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Mapping, Sequence

PIPE_BYTES = 1024 * 1024
F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)  # named by Python 3.10
PR_SET_PDEATHSIG = 1
STDERR_LINES = 40
LINE_BYTES = 65536  # tar escapes: a name of 4096 bytes can become four times as long
ENDING_SECONDS = 10
AGAIN_SECONDS = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(Exception):
    """A signal ended the module's work; the text names it, and what follows from that."""


def interruptible(consequence: str) -> None:
    """Make the first of SIGNALS raise ``Interrupted``.

    :param consequence: what follows from that, in words.
    """

    def interrupt(number: int, _frame: object) -> None:
        for other in SIGNALS:  # a second signal must not interrupt the end of the children
            signal.signal(other, signal.SIG_IGN)
        end(Interrupted(f"interrupted by {signal.Signals(number).name}: {consequence}"))

    def end(error: Interrupted) -> None:
        # If ending the children hangs, SIGALRM ends this process, and then the kernel kills them (_die_with_parent).
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ENDING_SECONDS)
        raise error

    def unraisable(ignored: Any) -> None:
        # Python ignores an exception in a finalizer: raise this one again after it.
        error = ignored.exc_value
        if isinstance(error, Interrupted):
            signal.signal(signal.SIGALRM, lambda _number, _frame: end(error))
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(ignored)

    sys.unraisablehook = unraisable
    for number in SIGNALS:
        signal.signal(number, interrupt)


def enlarge_pipe(pipe: IO[bytes]) -> None:
    """Enlarge a pipe's buffer to PIPE_BYTES, if that is permitted."""
    with contextlib.suppress(OSError):  # beyond the user's limit of pipe pages; a small buffer is only slower
        fcntl.fcntl(pipe.fileno(), F_SETPIPE_SZ, PIPE_BYTES)


def _die_with_parent() -> Callable[[], None]:
    """Return a function for a child to call before exec, so that the kernel kills it when this process ends."""
    parent = os.getpid()
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return lambda: None

    def call() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(126)

    return call


class Collector(threading.Thread):
    """A thread that reads a process's stderr or stdout, so that the process never blocks; keeps STDERR_LINES lines.

    :param feed: called with each line.
    """

    def __init__(self, pipe: IO[bytes], feed: Callable[[str], object] | None = None) -> None:
        super().__init__(daemon=True)
        self.pipe, self.feed = pipe, feed
        self.lines: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self.start()

    def run(self) -> None:
        while True:
            raw = self.pipe.readline(LINE_BYTES)
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(line)
            if self.feed is not None:
                self.feed(line)

    def text(self) -> str:
        """Return the last lines. Waits up to 5 s for the end, as a grandchild may still hold the pipe open."""
        self.join(5)
        return "\n".join(self.lines)


class Child:
    """A process of the pipeline, in a process group of its own, so that its children can be ended with it.

    :param feed: called with each line of its stderr.
    :param before_exec: called in the child.
    :param pipes: for subprocess.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        feed: Callable[[str], object] | None = None,
        before_exec: Callable[[], None] | None = None,
        **pipes: Any,
    ) -> None:
        die_with_parent = _die_with_parent()

        def prepare() -> None:
            die_with_parent()
            if before_exec is not None:
                before_exec()

        self.process = subprocess.Popen(
            list(argv),
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=prepare,
            **pipes,
        )
        assert self.process.stderr is not None
        self.stderr = Collector(self.process.stderr, feed)

    def wait(self) -> int:
        """Return the status once the process has ended and its stderr has been read."""
        returncode = self.process.wait()
        self.stderr.join(5)
        return returncode

    def kill(self) -> None:
        """Kill the process and its group, if it still runs."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                self.process.kill()
            self.process.wait()
