# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finding and ending the processes of a run, by a variable in their environment.

Ansible's workers and modules have sessions of their own and outlive a killed ansible-playbook, so neither the process
group nor the parent process identifies them (seen with ansible-core 2.19).
"""

import contextlib
import os
import signal
import time
from pathlib import Path

MARKER = "EC2_BACKUP_RUN_ID"


def carrying(variable: str, value: str) -> list[int]:
    """Return the IDs of the processes that have this variable with this value in their environment.

    The ID of this process is not among them.
    """
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # The process has ended meanwhile, or is another user's.
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def of_run(run_id: str, command: str = "") -> list[int]:
    """Return the IDs of a run's processes without this one; if ``command`` is given, only of those of that name."""
    found = []
    for pid in carrying(MARKER, run_id):
        with contextlib.suppress(OSError):
            if not command or Path(f"/proc/{pid}/comm").read_text().strip() == command:
                found.append(pid)
    return found


def tell(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(run_id: str, patience: float = 3.0) -> None:
    """End all processes of a run: SIGTERM, and after ``patience`` seconds SIGKILL.

    Zombies need no attention: they have no environment, and so are not found.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        left = of_run(run_id)
        tell(left, number)
        while left and time.monotonic() < deadline:
            time.sleep(0.05)  # one can only wait for children, and these are not
            left = of_run(run_id)
        if not left:
            return
