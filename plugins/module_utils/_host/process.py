# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The processes of a pipeline: started, drained, and surely ended.

No shell holds a pipeline of ours together, so no status can get lost in one. Runs on the host whose directory is saved
or restored to: Python 3.8, standard library only.
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
LINE_BYTES = 65536  # tar quotes: a name of 4096 bytes can take four times as many
ENDING_SECONDS = 10
AGAIN_SECONDS = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asked for the end."""


def interruptible(consequence: str) -> None:
    """Make the first signal raise Interrupted in this module, with what follows from it in words."""

    def interrupt(number: int, _frame: object) -> None:
        for other in SIGNALS:  # the second of them must not interrupt the ending of the children
            signal.signal(other, signal.SIG_IGN)
        end(Interrupted(f"interrupted by {signal.Signals(number).name}: {consequence}"))

    def end(error: Interrupted) -> None:
        # Whatever may hinder it: the alarm ends us, and our end the children.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ENDING_SECONDS)
        raise error

    def unraisable(swallowed: Any) -> None:
        # Python swallows an exception that comes in a finalizer: this one is raised again, outside.
        error = swallowed.exc_value
        if isinstance(error, Interrupted):
            signal.signal(signal.SIGALRM, lambda _number, _frame: end(error))
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(swallowed)

    sys.unraisablehook = unraisable
    for number in SIGNALS:
        signal.signal(number, interrupt)


def enlarge_pipe(pipe: IO[bytes]) -> None:
    """Give a pipe room for one whole chunk, where that is allowed."""
    with contextlib.suppress(OSError):  # the user's limit of pipe pages: slower, not wrong
        fcntl.fcntl(pipe.fileno(), F_SETPIPE_SZ, PIPE_BYTES)


def _die_with_parent() -> Callable[[], None]:
    """Return what a child calls before exec, so that the kernel kills it when this process is gone (SIGKILL, OOM)."""
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
    """Drains a process's stderr or stdout, so that it never blocks, in bounded memory."""

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
        """Return the last lines; waits a moment for a stray grandchild to let go of the pipe."""
        self.join(5)
        return "\n".join(self.lines)


class Child:
    """A process of the pipeline, in a process group of its own so that its children end with it."""

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
        """Return the status, once it has ended and all it said on stderr has been taken in."""
        returncode = self.process.wait()
        self.stderr.join(5)
        return returncode

    def kill(self) -> None:
        """End the process and its group, if it is still there."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except OSError:
                self.process.kill()
            self.process.wait()
