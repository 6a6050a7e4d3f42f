# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sending a stream: tar | [local filter] | count and hash | ssh. The end of each process is checked.

Runs on the host whose directory is saved: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import Reports, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import stages
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import TarLog, tar_arguments, tar_failure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Child, Collector, enlarge_pipe
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pump import Pump, tee_call
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import SESSION_SECONDS
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import connection_trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from ansible_collections.ec2_backup.ebs.plugins.module_utils.meter import Meter, written_by
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, last_words, with_words


def local_trouble(tar: int, log: TarLog, local_filter: int | None, filter_words: str) -> str | None:
    """Return in words what first went wrong with the processes in front of the pump, or None.

    :param tar: its return code as subprocess gives it (-N: killed by signal N).
    :param local_filter: the filter's return code; None if there is no filter.
    """
    lost_reader = tar == -signal.SIGPIPE or any("Broken pipe" in line for line in log.other)
    if local_filter:
        if tar != 0 and not lost_reader:
            reason = tar_failure(tar, log)
            if reason is not None:
                return reason
        return with_words(describe_status("the local filter", local_filter), filter_words)
    if local_filter == 0 and lost_reader:
        return "the local filter ended before it had read the whole archive"
    return tar_failure(tar, log)


class Stream:
    """One run of the pipeline. Use ``send``."""

    def __init__(
        self, ssh: Sequence[str], directory: str, local_filter: str | None, selection: Sequence[str] = ()
    ) -> None:
        self.ssh_argv, self.directory, self.local_filter = list(ssh), directory, local_filter
        self.selection = selection
        self.filters: list[Child] = []
        self.reports, self.log, self.pump = Reports(), TarLog(), Pump()
        self.children: dict[str, Child] = {}
        self.answered = threading.Event()
        self.taken = 0

    def stderr(self) -> dict[str, str]:
        """Return each process's last lines."""
        return {name: child.stderr.text() for name, child in self.children.items()}

    def error(self, message: str) -> StreamError:
        self.close()
        return StreamError(message, self.stderr())

    def close(self) -> None:
        """Kill the processes that still run."""
        for child in self.children.values():
            child.kill()

    def connect(self, command: str, seconds: float) -> None:
        """Start the session, and wait until the instance is ready for the stream.

        :param seconds: how long to wait at most.
        :raises StreamError: there is no answer in time.
        """

        def record(line: str) -> None:
            if self.reports.feed(line):
                self.answered.set()

        child = Child([*self.ssh_argv, command], os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1)
        self.children["ssh"] = child
        assert child.process.stdout is not None
        assert child.process.stdin is not None
        enlarge_pipe(child.process.stdin)
        self.reader = Collector(child.process.stdout, record)
        deadline = time.monotonic() + seconds
        while not self.answered.wait(0.05) and self.reader.is_alive():
            if time.monotonic() > deadline:
                raise self.error(f"no answer from {self.ssh_argv[-1]} within {seconds:.0f} s")

    def remote_trouble(self, volume_id: str, timeout: int) -> str | None:
        """Wait for the session's end; return in words what went wrong with it, or None."""
        child = self.children["ssh"]
        returncode = child.wait()
        self.reader.join(5)
        reported = trouble(self.reports, volume_id, timeout)
        if reported is not None:
            return reported
        if returncode != 0 or self.reports.stored_bytes is None:
            return connection_trouble(returncode, child.stderr.text(), self.ssh_argv[-1], self.reports.ready)
        return None

    def produce(self) -> IO[bytes]:
        """Start tar, and the local filter behind it; return the pipe from which the stream is read."""
        environment = clean_environment(os.environ)
        tar = Child(
            tar_arguments(self.directory, "-", selection=self.selection),
            environment,
            self.log.feed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.children["tar"] = tar
        assert tar.process.stdout is not None
        enlarge_pipe(tar.process.stdout)
        last = tar
        for number, stage in enumerate(stages(self.local_filter) if self.local_filter else []):
            assert last.process.stdout is not None
            child = Child(["sh", "-c", stage], os.environ, stdin=last.process.stdout, stdout=subprocess.PIPE, bufsize=0)
            self.filters.append(child)
            self.children["local filter" + (f" {number + 1}" if number else "")] = child
            last.process.stdout.close()  # otherwise it would not notice the end of its reader
            assert child.process.stdout is not None
            enlarge_pipe(child.process.stdout)
            last = child
        assert last.process.stdout is not None
        return last.process.stdout

    def count(self) -> tuple[int | None, int]:
        """Return the bytes of the archive so far (None if not known), and those sent."""
        if not self.local_filter:
            return self.pump.bytes, self.pump.bytes
        # Only the filter reads the archive itself; but tar writes nothing else.
        tar = self.children["tar"].process
        if tar.returncode is None:  # afterwards its ID may belong to another process
            self.taken = max(self.taken, written_by(tar.pid) or 0)
        return self.taken or None, self.pump.bytes

    def wait_local(self) -> str | None:
        """Wait for tar and the local filter; return in words what first went wrong, or None."""
        tar = self.children["tar"].wait()
        # The last that failed is the cause: the failures before it follow from the end of their reader.
        ended = [(child.wait(), child) for child in self.filters]
        status, child = next((pair for pair in reversed(ended) if pair[0]), ended[-1] if ended else (None, None))
        return local_trouble(tar, self.log, status, last_words(child.stderr.text()) if child is not None else "")


def send(
    ssh: Sequence[str],
    command: str,
    directory: str,
    volume_id: str,
    timeout: int,
    local_filter: str | None = None,
    remote_filter: bool = False,
    selection: Sequence[str] = (),
) -> dict[str, Any]:
    """Send the archive of ``directory`` to the volume; return the module's result.

    Returns only if every process, here and on the instance, has done all its work.

    :param ssh: its argv.
    :param command: of the instance, from ``remote_command``.
    :param timeout: the seconds that it waits for the device.
    :param remote_filter: whether it has one.
    :param selection: as for ``tar_arguments``.
    :raises StreamError: in all other cases; no process is left here then.
    """
    stream = Stream(ssh, directory, local_filter, selection)
    meter = Meter(stream.count)
    try:
        stream.connect(command, timeout + SESSION_SECONDS)
        if not stream.reports.ready or stream.reports.code is not None:
            raise stream.error(
                stream.remote_trouble(volume_id, timeout) or "the script on the instance ended too early"
            )
        start = time.monotonic()
        source, sink = stream.produce(), stream.children["ssh"].process.stdin
        assert sink is not None
        meter.start()
        stream.pump.run(source.fileno(), sink.fileno(), tee_call())
        if stream.pump.broken:
            raise stream.error(stream.remote_trouble(volume_id, timeout) or "the instance stopped reading")
        source.close()
        # The instance takes the end of its input for the end of a good stream: check first that it is one.
        reason = stream.wait_local()
        if reason is not None:
            raise stream.error(reason)
        sink.close()
        reason = stream.remote_trouble(volume_id, timeout)
        if reason is not None:
            raise stream.error(reason)
        stored, sent = stream.reports.stored_bytes, stream.pump.bytes
        if not remote_filter and stored != sent:
            raise stream.error(f"{sent} bytes were sent, but {stored} were written to volume {volume_id}")
        seconds = time.monotonic() - start
        warnings, warnings_count = stream.log.findings()
        return {
            "bytes": sent,
            "sha256": stream.pump.digest.hexdigest(),
            "stored_bytes": stored,
            "device": stream.reports.device,
            "source_warnings": warnings,
            "source_warnings_count": warnings_count,
            "notices": stream.log.notices,
            "seconds": round(seconds, 3),
            "rate": int(sent / seconds) if seconds else 0,
        }
    finally:
        stream.close()
        meter.stop()
