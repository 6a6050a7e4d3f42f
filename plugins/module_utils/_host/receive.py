# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The near side of reading: ssh | count and hash | [the local filter's inverse] | tar, with every end accounted for.

Runs on the host that is restored to (or compared with): Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import PREFIX, Far, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import BLOCK_BYTES, BLOCKS, STREAM
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import inverse_stages
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import clean_environment, describe_status
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pipeline import (
    SESSION_SECONDS,
    Child,
    Pump,
    StreamError,
    connection_trouble,
    enlarge_pipe,
    tee_call,
    with_words,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import last_words
from ansible_collections.ec2_backup.ebs.plugins.module_utils.meter import Meter

GREETING_BYTES = 1024 * 1024  # of a login, before our own first line
# What the far side fails at when the volume's data is damaged, or cannot be read from it.
FOUND_BAD = ("archive", "dd", "filter")


class Session:
    """An ssh session that runs a composed script. Where its stdout carries data, that comes behind a line of ours."""

    def __init__(self, ssh: Sequence[str], command: str, volume_id: str, timeout: int, doing: str = "reading") -> None:
        self.host, self.volume_id, self.timeout, self.doing = ssh[-1], volume_id, timeout, doing
        self.far = Far()
        self.child = Child(
            [*ssh, command], os.environ, self.far.feed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.child.process.stdout is not None
        self.stdout: IO[bytes] = self.child.process.stdout
        enlarge_pipe(self.stdout)

    def wait_for_line(self, marker: str) -> str | None:
        """Read stdout up to the line that begins with ``marker``, and return that line; None if the session ends first.

        The lines before it are taken in. Raises StreamError when it does not come in time, or only other things do.
        """
        seconds = self.timeout + SESSION_SECONDS
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.child.kill()

        late = threading.Timer(seconds, expire)
        late.daemon = True
        late.start()
        taken = 0
        try:
            while taken < GREETING_BYTES:
                line = self._line()
                if line is None:
                    break
                if line.startswith(marker):
                    return line
                self.far.feed(line)
                taken += len(line) + 1
        finally:
            late.cancel()
        if expired.is_set():
            raise self.fail(f"no answer from {self.host} within {seconds:.0f} s")
        if taken >= GREETING_BYTES:
            raise self.fail(f"the session on {self.host} sends something else than what it was asked for")
        return None

    def _line(self) -> str | None:
        """One line, read byte by byte: what follows it is not ours to take."""
        taken = bytearray()
        while not taken.endswith(b"\n") and len(taken) < BLOCK_BYTES:
            byte = os.read(self.stdout.fileno(), 1)
            if not byte:
                return None
            taken += byte
        return taken.decode("utf-8", "replace").rstrip("\r\n")

    def stderr(self) -> str:
        """Return ssh's last lines, without the far side's own."""
        lines = self.child.stderr.text().split("\n")
        return "\n".join(line for line in lines if not line.startswith(PREFIX))

    def hear_out(self) -> None:
        """Take in all lines until the session ends, however long that takes: ssh itself notices a dead peer."""
        for line in iter(self._line, None):
            self.far.feed(line)

    def verdict(self, finished: Callable[[], bool]) -> str | None:
        """Wait for the session's end; return what went wrong with it, or None if it ``finished``."""
        returncode = self.child.wait()
        told = trouble(self.far, self.volume_id, self.timeout, self.doing)
        if told is not None:
            return told
        if returncode != 0 or not finished():
            return connection_trouble(returncode, self.stderr(), self.host, self.far.ready)
        return None

    def fail(self, message: str | None) -> StreamError:
        """End the session, and return the error to raise."""
        self.child.kill()
        return StreamError(message or "the far side ended too early", {"ssh": self.stderr()}, self.found_bad())

    def found_bad(self) -> bool:
        """Whether the far side failed at what the volume holds."""
        return self.far.code in FOUND_BAD


def peek(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> tuple[int, bytes, bytes]:
    """Return the offset at which the manifest's block ends, that block, and the volume's first 64 KiB.

    Raises StreamError.
    """
    session = Session(ssh, command, volume_id, timeout)
    try:
        line = session.wait_for_line(BLOCKS)
        data = session.stdout.read(2 * BLOCK_BYTES) if line else b""
        while line and 0 < len(data) < 2 * BLOCK_BYTES:
            more = session.stdout.read(2 * BLOCK_BYTES - len(data))
            if not more:
                break
            data += more
        reason = session.verdict(lambda: len(data) == 2 * BLOCK_BYTES)
        if reason is not None or line is None:
            raise session.fail(reason)
        return int(line.split()[1]), data[:BLOCK_BYTES], data[BLOCK_BYTES:]
    finally:
        session.child.kill()


def far_sum(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> tuple[str, int | None, str | None]:
    """Have the instance make the sum; return it, the archive's members (None if not counted), and what is wrong with
    the archive (None if nothing is). Raises StreamError.
    """
    session = Session(ssh, command, volume_id, timeout)
    try:
        line = session.wait_for_line(PREFIX + "ready")
        if line is not None:
            session.far.feed(line)
            session.hear_out()
        far = session.far
        if far.sha256 and far.code == "archive":
            session.child.wait()
            return far.sha256, far.members, far.text
        reason = session.verdict(lambda: bool(far.sha256) and far.stored_bytes is not None)
        if reason is not None or not far.sha256:
            raise session.fail(reason)
        return far.sha256, far.members, None
    finally:
        session.child.kill()


class Tar:
    """What takes the stream: tar, behind the local filter's inverse if there is one."""

    def __init__(
        self,
        argv: Sequence[str],
        directory: str | None,
        feed: Callable[[str], object],
        stdout: int | IO[bytes],
        inverse: str | None,
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        self.inverses: list[Child] = []
        source: int | IO[bytes] = subprocess.PIPE
        for stage in inverse_stages(inverse) if inverse else []:
            child = Child(["sh", "-c", stage], os.environ, stdin=source, stdout=subprocess.PIPE)
            self.inverses.append(child)
            source = self._pass_on(source, child)
        self.tar = Child(
            argv,
            clean_environment(os.environ),
            feed,
            before_exec,
            stdin=source,
            stdout=stdout,
            cwd=directory,
        )
        self._pass_on(source)
        stdin = (self.inverses or [self.tar])[0].process.stdin
        assert stdin is not None
        enlarge_pipe(stdin)
        self.sink: IO[bytes] = stdin

    @staticmethod
    def _pass_on(source: int | IO[bytes], child: Child | None = None) -> int | IO[bytes]:
        """Let go of a pipe that a child has by now, lest its writer never sees that go; return ``child``'s own."""
        if not isinstance(source, int):
            source.close()
        if child is None:
            return subprocess.PIPE
        assert child.process.stdout is not None
        enlarge_pipe(child.process.stdout)
        return child.process.stdout

    def kill(self) -> None:
        """End whatever still runs."""
        for child in (*self.inverses, self.tar):
            child.kill()

    def end(self) -> tuple[int, str | None]:
        """Wait for the processes' ends; return tar's status, and what was wrong with the filter, or None."""
        status = self.tar.wait()
        # The first that failed is the cause of what those behind it miss. One whose reader has gone is not to blame:
        # tar leaves the padding behind the archive's end. gpg ignores the signal, and fails by the error.
        for child, ended in [(child, child.wait()) for child in self.inverses]:
            words = last_words(child.stderr.text())
            if ended not in (0, -signal.SIGPIPE, 128 + signal.SIGPIPE) and "Broken pipe" not in words:
                return status, with_words(describe_status("the filter that undoes the local one", ended), words)
        return status, None


class Received:
    """What came of a stream: its bytes and sum, how tar ended, and what was wrong before it."""

    def __init__(
        self, pump: Pump, tar_status: int, filter_trouble: str | None, far_trouble: str | None, found_bad: bool
    ) -> None:
        self.bytes, self.sha256 = pump.bytes, pump.digest.hexdigest()
        self.tar_status, self.filter_trouble, self.far_trouble = tar_status, filter_trouble, far_trouble
        self.found_bad = found_bad  # it is the volume's data that the far side failed at
        self.seconds = 0.0


def receive(session: Session, tar: Tar, length: int | None, pump: Pump | None = None) -> Received:
    """Let the session's stream through tar to its end, counted and hashed, also when tar gives up before it.

    ``length``: the bytes that the far side is to read, or None if tar alone knows where the archive ends: then
    ``pump.enough`` stops the stream, or tar's end, whichever is seen first. Raises StreamError if the stream did not
    even begin.
    """
    pump = pump or Pump()
    meter = Meter(lambda: (pump.bytes, pump.bytes))
    try:
        if session.wait_for_line(STREAM) is None:
            raise session.fail(session.verdict(lambda: False))
        start = time.monotonic()
        source = session.stdout.fileno()
        meter.start()
        pump.run(source, tar.sink.fileno(), tee_call())
        if pump.broken and length is not None:
            pump.drain(source)
        tar.sink.close()
        if length is None and (pump.broken or pump.enough.is_set()):
            session.child.kill()
            far_trouble = None
        else:
            read = session.far
            far_trouble = session.verdict(lambda: read.stored_bytes is not None and length in (None, read.stored_bytes))
        received = Received(pump, *tar.end(), far_trouble, session.found_bad())
        received.seconds = time.monotonic() - start
        return received
    finally:
        session.child.kill()
        tar.kill()
        meter.stop()
