# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An ssh session that runs a script on the instance, and reads its reports.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import subprocess
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX, Reports, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import LINE_BYTES, Child, enlarge_pipe
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import connection_trouble

# In addition to the wait for the device: the time to connect, to log in and to examine the device.
SESSION_SECONDS = 90
GREETING_BYTES = 1024 * 1024  # the most that a login may print before the script's first line
# The failures of which the cause is the data on the volume: it is damaged, or cannot be read.
FOUND_BAD = ("archive", "dd", "filter")


class Session:
    """An ssh session that runs a script. Data on its stdout follows a line of the script's.

    :param ssh: its argv.
    :param command: from ``remote_command``.
    :param timeout: seconds to wait for the device.
    :param doing: what the script does to the volume, in words.
    """

    def __init__(self, ssh: Sequence[str], command: str, volume_id: str, timeout: int, doing: str = "reading") -> None:
        self.host, self.volume_id, self.timeout, self.doing = ssh[-1], volume_id, timeout, doing
        self.reports = Reports()
        self.child = Child(
            [*ssh, command], os.environ, self.reports.feed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.child.process.stdout is not None
        self.stdout: IO[bytes] = self.child.process.stdout
        enlarge_pipe(self.stdout)

    def wait_for_line(self, marker: str) -> str | None:
        """Read stdout up to the line that begins with ``marker``, and return that line; None if the session ends first.

        Reports before it are recorded.

        :raises StreamError: the line does not come in time, or too much precedes it.
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
                self.reports.feed(line)
                taken += len(line) + 1
        finally:
            late.cancel()
        if expired.is_set():
            raise self.fail(f"no answer from {self.host} within {seconds:.0f} s")
        if taken >= GREETING_BYTES:
            raise self.fail(f"the session on {self.host} sends something else than what it was asked for")
        return None

    def _line(self) -> str | None:
        """Return the next line; None at the end. Reads byte by byte, so that the data behind it stays in the pipe."""
        taken = bytearray()
        while not taken.endswith(b"\n") and len(taken) < LINE_BYTES:
            byte = os.read(self.stdout.fileno(), 1)
            if not byte:
                return None
            taken += byte
        return taken.decode("utf-8", "replace").rstrip("\r\n")

    def stderr(self) -> str:
        """Return the last lines of stderr, without the script's reports."""
        lines = self.child.stderr.text().split("\n")
        return "\n".join(line for line in lines if not line.startswith(PREFIX))

    def read_reports(self) -> None:
        """Record all reports until the session ends. There is no time limit: ssh itself notices a dead connection."""
        for line in iter(self._line, None):
            self.reports.feed(line)

    def wait(self, finished: Callable[[], bool]) -> str | None:
        """Wait for the session's end; return in words what went wrong, or None.

        :param finished: returns whether the script did all that it was to do; called if it reported no failure.
        """
        returncode = self.child.wait()
        reported = trouble(self.reports, self.volume_id, self.timeout, self.doing)
        if reported is not None:
            return reported
        if returncode != 0 or not finished():
            return connection_trouble(returncode, self.stderr(), self.host, self.reports.ready)
        return None

    def fail(self, message: str | None) -> StreamError:
        """End the session, and return the error to raise."""
        self.child.kill()
        return StreamError(
            message or "the script on the instance ended too early", {"ssh": self.stderr()}, self.found_bad()
        )

    def found_bad(self) -> bool:
        """Return whether the cause of the failure is the data on the volume."""
        return self.reports.code in FOUND_BAD
