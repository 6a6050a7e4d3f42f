# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The near side: tar | [local filter] | count and hash | ssh, with every process's end accounted for.

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

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import Far, trouble
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


class Stream:
    """One run of the pipeline. Use ``send``."""

    def __init__(
        self, ssh: Sequence[str], directory: str, local_filter: str | None, selection: Sequence[str] = ()
    ) -> None:
        self.ssh_argv, self.directory, self.local_filter = list(ssh), directory, local_filter
        self.selection = selection
        self.filters: list[Child] = []
        self.far, self.log, self.pump = Far(), TarLog(), Pump()
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
            last.process.stdout.close()  # or it would never see its reader go
            assert child.process.stdout is not None
            enlarge_pipe(child.process.stdout)
            last = child
        assert last.process.stdout is not None
        return last.process.stdout

    def count(self) -> tuple[int | None, int]:
        """Return the bytes of the archive so far (None if not known), and those sent."""
        if not self.local_filter:
            return self.pump.bytes, self.pump.bytes
        # Of the archive itself only the filter sees anything; but tar writes nothing else.
        tar = self.children["tar"].process
        if tar.returncode is None:  # its ID may soon be somebody else's
            self.taken = max(self.taken, written_by(tar.pid) or 0)
        return self.taken or None, self.pump.bytes

    def local_verdict(self) -> str | None:
        """Wait for the near processes' ends; return the first cause of trouble, or None."""
        tar = self.children["tar"].wait()
        # The last that failed took its input's reader from those before it.
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
    """Send the archive of ``directory`` to the far side's ``command``; return the module's result.

    ``timeout`` is that of the far side for the device, in seconds; ``selection`` as for ``tar_arguments``. Returns
    only if every process, near and far, has said that it did its whole work; raises StreamError otherwise, with
    nothing left running here.
    """
    stream = Stream(ssh, directory, local_filter, selection)
    meter = Meter(stream.count)
    try:
        stream.connect(command, timeout + SESSION_SECONDS)
        if not stream.far.ready or stream.far.code is not None:
            raise stream.error(stream.far_trouble(volume_id, timeout) or "the far side ended too early")
        start = time.monotonic()
        source, sink = stream.produce(), stream.children["ssh"].process.stdin
        assert sink is not None
        meter.start()
        stream.pump.run(source.fileno(), sink.fileno(), tee_call())
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
        meter.stop()
