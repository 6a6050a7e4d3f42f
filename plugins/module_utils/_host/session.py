# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An ssh session that runs a script on the instance. Python 3.8, standard library only."""

from __future__ import annotations

import os
import subprocess
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX, Far, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import LINE_BYTES, Child, enlarge_pipe
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import connection_trouble

# Beyond the wait for the device: to connect, log in and look at the device.
SESSION_SECONDS = 90
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
        while not taken.endswith(b"\n") and len(taken) < LINE_BYTES:
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
