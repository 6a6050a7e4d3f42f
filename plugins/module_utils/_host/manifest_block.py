# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest's block at the volume's end: read and written over SSH. Python 3.8, standard library only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import PREFIX
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import BLOCKS
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import BLOCK_BYTES
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import Session


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


def put(ssh: Sequence[str], command: str, volume_id: str, timeout: int) -> None:
    """Run the script ``command`` that writes the manifest (``put_script``), and wait until it is on the volume.

    ``timeout``: seconds to wait for the device. Raises StreamError.
    """
    session = Session(ssh, command, volume_id, timeout, "writing to")
    try:
        done = session.wait_for_line(PREFIX + "done")
        reason = session.verdict(lambda: done is not None)
        if reason is not None:
            raise session.fail(reason)
    finally:
        session.child.kill()
