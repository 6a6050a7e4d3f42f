# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest's block at the volume's end: read and written over SSH.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import BLOCKS
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import put_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import BLOCK_BYTES, complete, encode
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.selection import record
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import Session
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils.version import VERSION


def peek(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> tuple[int, bytes, bytes]:
    """Return the offset at which the manifest's block ends, that block, and the volume's first 64 KiB.

    :raises StreamError: they could not be read.
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
        reason = session.wait(lambda: len(data) == 2 * BLOCK_BYTES)
        if reason is not None or line is None:
            raise session.fail(reason)
        return int(line.split()[1]), data[:BLOCK_BYTES], data[BLOCK_BYTES:]
    finally:
        session.child.kill()


def write(
    asked: Mapping[str, Any], sent: Mapping[str, Any], source: Mapping[str, str], inverses: Mapping[str, str | None]
) -> dict[str, Any]:
    """Write the manifest of the stream that was ``sent`` onto its volume; return it once it is flushed.

    :param asked: a module's options: those of every module that works on a device, ``run_id``, ``selection`` and both
        filters.
    :param sent: the result of ``stream_send``.
    :param source: ``host`` and ``path``.
    :param inverses: the commands that undo the filters, by ``local`` and ``remote``, where they are not among those
        that are known.
    :raises StreamError: it was not written.
    """
    document = complete(
        run_id=asked["run_id"],
        host=source["host"],
        path=source["path"],
        stream_bytes=int(sent["bytes"]),
        stream_sha256=sent["sha256"],
        stored_bytes=int(sent["stored_bytes"]),
        volume_bytes=asked["volume_size"],
        started=sent["started"],
        finished=times.stamp(),
        version=VERSION,
        warnings=int(sent["source_warnings_count"]),
        local_filter=asked["local_filter"],
        remote_filter=asked["remote_filter"],
        local_inverse=inverses.get("local"),
        remote_inverse=inverses.get("remote"),
        selection=record(asked["selection"]),
    )
    volume_id, timeout = asked["volume_id"], asked["timeout"]
    try:
        text = encode(document).decode("ascii")
        script = put_script(volume_id, asked["volume_size"], text, asked["device_exact"], timeout)
        _run(expand_arguments(asked["ssh"]), remote_command(script, asked["device"]), volume_id, timeout)
    except StreamError as error:
        raise StreamError(f"The manifest was not written: {error}", error.stderr) from None
    except (ValueError, OSError) as error:
        raise StreamError(f"The manifest was not written: {error}", {}) from None
    return document


def _run(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> None:
    session = Session(ssh, command, volume_id, timeout, "writing to")
    try:
        done = session.wait_for_line(PREFIX + "done")
        reason = session.wait(lambda: done is not None)
        if reason is not None:
            raise session.fail(reason)
    finally:
        session.child.kill()
