# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Receiving a stream: ssh | count and hash | [inverse of the local filter] | tar. The end of each process is checked.

Runs on the host that is restored to, or compared with: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import STREAM
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import inverse_stages
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Child, enlarge_pipe
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pump import Pump, tee_call
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import Session
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from ansible_collections.ec2_backup.ebs.plugins.module_utils.meter import Meter
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, last_words, with_words


def remote_sum(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> tuple[str, int | None, str | None]:
    """Have the instance compute the stream's SHA-256 (``sum_script``).

    :returns: the sum, the number of the archive's members (None if not counted), and what is wrong with the archive
        (None if nothing is).
    :raises StreamError: it did not compute the sum.
    """
    session = Session(ssh, command, volume_id, timeout)
    try:
        line = session.wait_for_line(PREFIX + "ready")
        if line is not None:
            session.reports.feed(line)
            session.read_reports()
        reports = session.reports
        if reports.sha256 and reports.code == "archive":
            session.child.wait()
            return reports.sha256, reports.members, reports.text
        reason = session.wait(lambda: bool(reports.sha256) and reports.stored_bytes is not None)
        if reason is not None or not reports.sha256:
            raise session.fail(reason)
        return reports.sha256, reports.members, None
    finally:
        session.child.kill()


class Tar:
    """The receiving end of the stream: tar, behind the inverse of the local filter if there is one.

    :param argv: tar's.
    :param directory: its working directory.
    :param feed: called with each line of its stderr.
    :param before_exec: called in its process.
    """

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
        """Close our copy of a child's stdin, so that its writer notices the child's end; return ``child``'s stdout."""
        if not isinstance(source, int):
            source.close()
        if child is None:
            return subprocess.PIPE
        assert child.process.stdout is not None
        enlarge_pipe(child.process.stdout)
        return child.process.stdout

    def kill(self) -> None:
        """Kill the processes that still run."""
        for child in (*self.inverses, self.tar):
            child.kill()

    def end(self) -> tuple[int, str | None]:
        """Wait for the processes; return tar's status, and what went wrong with the filter, or None."""
        status = self.tar.wait()
        # The first that failed is the cause of failures behind it. One that failed because its reader ended is none:
        # tar does not read the padding behind the archive's end. gpg ignores SIGPIPE and fails by the write error.
        for child, ended in [(child, child.wait()) for child in self.inverses]:
            words = last_words(child.stderr.text())
            if ended not in (0, -signal.SIGPIPE, 128 + signal.SIGPIPE) and "Broken pipe" not in words:
                return status, with_words(describe_status("the filter that undoes the local one", ended), words)
        return status, None


class Received:
    """The outcome of a stream: its bytes and SHA-256, tar's status, and what went wrong in front of tar."""

    def __init__(
        self, pump: Pump, tar_status: int, filter_trouble: str | None, remote_trouble: str | None, found_bad: bool
    ) -> None:
        self.bytes, self.sha256 = pump.bytes, pump.digest.hexdigest()
        self.tar_status, self.filter_trouble, self.remote_trouble = tar_status, filter_trouble, remote_trouble
        self.found_bad = found_bad  # whether remote_trouble comes from the data on the volume
        self.seconds = 0.0


def receive(session: Session, tar: Tar, length: int | None, pump: Pump | None = None) -> Received:
    """Move the session's whole stream into tar, counted and hashed, even if tar ends before the stream does.

    :param length: the bytes that the instance has to read from the volume, or None if only tar knows where the archive
        ends: then the stream stops at ``pump.enough`` or at tar's end, whichever is first.
    :raises StreamError: the stream does not begin.
    """
    pump = pump or Pump()
    meter = Meter(lambda: (pump.bytes, pump.bytes))
    try:
        if session.wait_for_line(STREAM) is None:
            raise session.fail(session.wait(lambda: False))
        start = time.monotonic()
        source = session.stdout.fileno()
        meter.start()
        pump.run(source, tar.sink.fileno(), tee_call())
        if pump.broken and length is not None:
            pump.drain(source)
        tar.sink.close()
        if length is None and (pump.broken or pump.enough.is_set()):
            session.child.kill()
            remote_trouble = None
        else:
            reports = session.reports
            remote_trouble = session.wait(
                lambda: reports.stored_bytes is not None and length in (None, reports.stored_bytes)
            )
        received = Received(pump, *tar.end(), remote_trouble, session.found_bad())
        received.seconds = time.monotonic() - start
        return received
    finally:
        session.child.kill()
        tar.kill()
        meter.stop()
