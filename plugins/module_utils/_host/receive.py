# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The near side of reading: ssh | count and hash | [the local filter's inverse] | tar, with every end accounted for.

Runs on the host that is restored to (or compared with): Python 3.8, standard library only.

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
