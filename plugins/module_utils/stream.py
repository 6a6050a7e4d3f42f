# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The near side: tar | [local filter] | count and hash | ssh, with every process's end accounted for.

No shell holds the pipeline together, so no status can get lost in one. Runs on the host whose directory is saved:
Python 3.8, standard library only.
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
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils.archive import (
    TarLog,
    clean_environment,
    describe_status,
    tar_arguments,
    tar_failure,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils.device import Far, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils.ssh import classify_complaint, last_words

CHUNK = 1024 * 1024
F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)  # named by Python 3.10
PR_SET_PDEATHSIG = 1
STDERR_LINES = 40
LINE_BYTES = 65536  # tar quotes: a name of 4096 bytes can take four times as many
# Beyond the wait for the device: to connect, log in and look at the device.
SESSION_SECONDS = 90


class StreamError(Exception):
    """The stream failed; the text is one line that names the first cause. ``stderr``: each process's last words."""

    def __init__(self, message: str, stderr: dict[str, str]) -> None:
        super().__init__(message)
        self.stderr = stderr


# ---- pure: who is to blame ------------------------------------------------------------------------------------------


def with_words(text: str, words: str) -> str:
    """Return ``text: words``, or ``text`` alone if there are none."""
    return f"{text}: {words}" if words else text


def local_trouble(tar: int, log: TarLog, local_filter: int | None, filter_words: str) -> str | None:
    """Return the first cause among the processes before the pump, or None if they all did their work.

    ``tar`` and ``local_filter`` are return codes as subprocess gives them (-N: killed by signal N).
    """
    starved = tar == -signal.SIGPIPE or any("Broken pipe" in line for line in log.other)
    if local_filter:
        if tar != 0 and not starved:
            reason = tar_failure(tar, log)
            if reason is not None:
                return reason
        return with_words(describe_status("the local filter", local_filter), filter_words)
    if local_filter == 0 and starved:
        return "the local filter ended before it had read the whole archive"
    return tar_failure(tar, log)


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
        **pipes: Any,
    ) -> None:
        self.process = subprocess.Popen(
            list(argv),
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_die_with_parent(),
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


def _tee() -> Callable[[int, int, int], int] | None:
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
            if left == 0:
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
            if count == 0:
                return
            sent = 0
            while sent < count:
                sent += os.write(sink, view[sent:count])
            self.digest.update(view[:count])  # after the write: ssh encrypts while we hash
            self.bytes += count


class Stream:
    """One run of the pipeline. Use ``send``."""

    def __init__(self, ssh: Sequence[str], directory: str, local_filter: str | None) -> None:
        self.ssh_argv, self.directory, self.local_filter = list(ssh), directory, local_filter
        self.far, self.log, self.pump = Far(), TarLog(), Pump()
        self.children: dict[str, Child] = {}
        self.answered = threading.Event()

    def stderr(self) -> dict[str, str]:
        """Return each process's last lines."""
        return {name: child.stderr.text() for name, child in self.children.items()}

    def error(self, message: str) -> StreamError:
        self.close()
        return StreamError(message, self.stderr())

    def close(self) -> None:
        """End whatever still runs."""
        for child in self.children.values():
            child.kill()

    def connect(self, command: str, seconds: float) -> None:
        """Start the session, and wait until the far side is ready for the stream."""

        def hear(line: str) -> None:
            if self.far.feed(line):
                self.answered.set()

        child = Child([*self.ssh_argv, command], os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1)
        self.children["ssh"] = child
        assert child.process.stdout is not None
        assert child.process.stdin is not None
        enlarge_pipe(child.process.stdin)
        self.hearing = Collector(child.process.stdout, hear)
        deadline = time.monotonic() + seconds
        while not self.answered.wait(0.05) and self.hearing.is_alive():
            if time.monotonic() > deadline:
                raise self.error(f"no answer from {self.ssh_argv[-1]} within {seconds:.0f} s")

    def far_trouble(self, volume_id: str, timeout: int) -> str | None:
        """Wait for the session's end; return what went wrong with it, or None."""
        child = self.children["ssh"]
        returncode = child.wait()
        self.hearing.join(5)
        told = trouble(self.far, volume_id, timeout)
        if told is not None:
            return told
        if returncode != 0 or self.far.stored_bytes is None:
            return connection_trouble(returncode, child.stderr.text(), self.ssh_argv[-1], self.far.ready)
        return None

    def produce(self) -> IO[bytes]:
        """Start tar, and the local filter behind it; return the end from which the stream comes."""
        environment = clean_environment(os.environ)
        tar = Child(
            tar_arguments(self.directory, "-"),
            environment,
            self.log.feed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.children["tar"] = tar
        assert tar.process.stdout is not None
        enlarge_pipe(tar.process.stdout)
        if not self.local_filter:
            return tar.process.stdout
        child = Child(
            ["sh", "-c", self.local_filter], os.environ, stdin=tar.process.stdout, stdout=subprocess.PIPE, bufsize=0
        )
        self.children["local filter"] = child
        tar.process.stdout.close()  # or tar would never see its reader go
        assert child.process.stdout is not None
        enlarge_pipe(child.process.stdout)
        return child.process.stdout

    def local_verdict(self) -> str | None:
        """Wait for the near processes' ends; return the first cause of trouble, or None."""
        tar = self.children["tar"].wait()
        child = self.children.get("local filter")
        status = child.wait() if child is not None else None
        return local_trouble(tar, self.log, status, last_words(child.stderr.text()) if child is not None else "")


def send(
    ssh: Sequence[str],
    command: str,
    directory: str,
    volume_id: str,
    timeout: int,
    local_filter: str | None = None,
    remote_filter: bool = False,
) -> dict[str, Any]:
    """Send the archive of ``directory`` to the far side's ``command``; return the module's result.

    ``timeout`` is that of the far side for the device, in seconds. Returns only if every process, near and far, has
    said that it did its whole work; raises StreamError otherwise, with nothing left running here.
    """
    stream = Stream(ssh, directory, local_filter)
    try:
        stream.connect(command, timeout + SESSION_SECONDS)
        if not stream.far.ready or stream.far.code is not None:
            raise stream.error(stream.far_trouble(volume_id, timeout) or "the far side ended too early")
        start = time.monotonic()
        source, sink = stream.produce(), stream.children["ssh"].process.stdin
        assert sink is not None
        stream.pump.run(source.fileno(), sink.fileno(), _tee())
        if stream.pump.broken:
            raise stream.error(stream.far_trouble(volume_id, timeout) or "the far side stopped reading")
        source.close()
        # The end of ssh's input looks to the far side like the end of a good stream: first be sure that it is one.
        reason = stream.local_verdict()
        if reason is not None:
            raise stream.error(reason)
        sink.close()
        reason = stream.far_trouble(volume_id, timeout)
        if reason is not None:
            raise stream.error(reason)
        stored, sent = stream.far.stored_bytes, stream.pump.bytes
        if not remote_filter and stored != sent:
            raise stream.error(f"{sent} bytes were sent, but {stored} were written to volume {volume_id}")
        seconds = time.monotonic() - start
        warnings, warnings_count = stream.log.findings()
        return {
            "bytes": sent,
            "sha256": stream.pump.digest.hexdigest(),
            "stored_bytes": stored,
            "device": stream.far.device,
            "source_warnings": warnings,
            "source_warnings_count": warnings_count,
            "notices": stream.log.notices,
            "seconds": round(seconds, 3),
            "rate": int(sent / seconds) if seconds else 0,
        }
    finally:
        stream.close()
