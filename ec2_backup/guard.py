# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ends a run's processes, and removes its keys, if the wrapper is killed: a process that outlives it.

An Ansible without its wrapper would send the rest of the stream, then fail as it has nobody to tell of it, and at times
hang (seen with ansible-core 2.19). The account is not looked after: that the instance ends is its watchdog's business.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ec2_backup import processes

OVER = b"over"


@contextlib.contextmanager
def guarded(run_id: str, private: Path) -> Iterator[None]:
    """Have a run's processes ended, and its private directory removed, should this process be killed meanwhile.

    :raises OSError: no process could be started for that.
    """
    here = str(Path(__file__).parents[1])
    guard = subprocess.Popen(
        [sys.executable, "-m", "ec2_backup.guard", run_id, str(private)],
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
        with contextlib.suppress(OSError):  # somebody killed it
            guard.communicate(OVER)


def main(run_id: str, private: str) -> None:
    """Wait until the wrapper says that it is over, or can say nothing any more."""
    if sys.stdin.buffer.read() != OVER:  # its end of the pipe is closed when it dies, whatever it dies of
        processes.end(run_id)
        shutil.rmtree(private, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
