# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a pipeline, and what goes between them: started, drained, counted, hashed, and surely ended.

No shell holds a pipeline of ours together, so no status can get lost in one. Runs on the host whose directory is saved
or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import describe_status
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import classify_complaint, last_words

CHUNK = 1024 * 1024
F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)  # named by Python 3.10
PR_SET_PDEATHSIG = 1
STDERR_LINES = 40
LINE_BYTES = 65536  # tar quotes: a name of 4096 bytes can take four times as many
# Beyond the wait for the device: to connect, log in and look at the device.
SESSION_SECONDS = 90
ENDING_SECONDS = 10
AGAIN_SECONDS = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StreamError(Exception):
    """The stream failed; the text is one line that names the first cause. ``stderr``: each process's last words.

    ``found_bad``: it is what the volume holds that is at fault, not the way to it.
    """

    def __init__(self, message: str, stderr: dict[str, str], found_bad: bool = False) -> None:
        super().__init__(message)
        self.stderr, self.found_bad = stderr, found_bad


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


def with_words(text: str, words: str) -> str:
    """Return ``text: words``, or ``text`` alone if there are none."""
    return f"{text}: {words}" if words else text


def connection_trouble(returncode: int, stderr: str, host: str, ready: bool) -> str:
    """Return in words why ssh ended without the far side's last line."""
    kind = classify_complaint(stderr)
    if kind == "host key":
        return f"the host key of {host} is not the one that was given to the instance: refusing to talk to it"
    if returncode == 255 or returncode < 0:
        text = f"the connection to {host} broke" if ready else f"no connection to {host}"
        return with_words(text, last_words(stderr) or describe_status("ssh", returncode))
    return with_words(f"the session on {host} ended with status {returncode}, without a result", last_words(stderr))


# ---- the edge: processes --------------------------------------------------------------------------------------------


def enlarge_pipe(pipe: IO[bytes]) -> None:
    """Give a pipe room for one whole chunk, where that is allowed."""
    with contextlib.suppress(OSError):  # the user's limit of pipe pages: slower, not wrong
        fcntl.fcntl(pipe.fileno(), F_SETPIPE_SZ, CHUNK)


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


def tee_call() -> Callable[[int, int, int], int] | None:
    """Return tee(2), which Python does not have: (source, sink, bytes) -> bytes; None where there is none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).tee
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
    call.restype = ctypes.c_ssize_t

    def tee(source: int, sink: int, count: int) -> int:
        while True:
            done = int(call(source, sink, count, 0))
            if done >= 0:
                return done
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    return tee


class Pump:
    """Moves the stream on from one pipe to another, counting and hashing it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.digest = hashlib.sha256()
        self.broken = False  # the reader of the stream went away
        self.enough = threading.Event()  # the reader has all that it wants

    def drain(self, source: int) -> None:
        """Count and hash what is left in ``source`` when the sink is gone."""
        view = memoryview(bytearray(CHUNK))
        while True:
            count = os.readv(source, [view])
            if count == 0:
                return
            self.digest.update(view[:count])
            self.bytes += count

    def run(self, source: int, sink: int, tee: Callable[[int, int, int], int] | None = None) -> None:
        """Pass all of ``source`` on to ``sink`` (descriptors), until the source's end, or until the sink breaks.

        With ``tee`` the data goes on without being copied, and is read for the hash alone: a tenth less processor time
        of ours (measured), which is what the stream's speed hangs on where ssh and we share two cores.
        """
        try:
            if tee is not None and self._run_tee(source, sink, tee):
                return
            self._run_copy(source, sink)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            self.broken = True

    def _run_tee(self, source: int, sink: int, tee: Callable[[int, int, int], int]) -> bool:
        view = memoryview(bytearray(CHUNK))
        while True:
            try:
                left = tee(source, sink, CHUNK)
            except OSError as error:
                # Not for these descriptors, or not in this sandbox: nothing has been consumed yet.
                if self.bytes == 0 and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                    return False
                raise
            if left == 0 or self.enough.is_set():
                return True
            while left:  # what was passed on is still in the source, and nobody else reads it
                count = os.readv(source, [view[:left]])
                self.digest.update(view[:count])
                self.bytes += count
                left -= count

    def _run_copy(self, source: int, sink: int) -> None:
        view = memoryview(bytearray(CHUNK))
        while True:
            count = os.readv(source, [view])
            if count == 0 or self.enough.is_set():
                return
            sent = 0
            try:
                while sent < count:
                    sent += os.write(sink, view[sent:count])
            finally:
                self.digest.update(view[:count])  # after the write: ssh encrypts while we hash
                self.bytes += count
