# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A process that outlives the wrapper if that is killed. It ends the run's processes and removes the run's keys.

Without it Ansible would send the rest of the stream, then fail because its output is not read any more, and sometimes
hang (seen with ansible-core 2.19). The account is not cleaned up: the instance's watchdog ends the instance.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ec2_backup.run import processes

OVER = b"over"


@contextlib.contextmanager
def guarded(run_id: str, private: Path) -> Iterator[None]:
    """Start a guard that cleans up if this process is killed while in this context.

    :raises OSError: the guard could not be started.
    """
    here = str(Path(__file__).parents[2])
    guard = subprocess.Popen(
        [sys.executable, "-m", "ec2_backup.run.guard", run_id, str(private)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the guard was killed
            guard.communicate(OVER)


def main(run_id: str, private: str) -> None:
    """Wait until the wrapper reports that the run is over, or until the wrapper has died; then clean up."""
    if sys.stdin.buffer.read() != OVER:  # at the wrapper's death the kernel closes its end of the pipe
        processes.end(run_id)
        shutil.rmtree(private, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
