# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The processes of a run, found by what they carry in their environment.

Ansible's workers and modules live in sessions of their own and outlive a killed ansible-playbook, so neither a process
group nor the family tree leads to them (seen with ansible-core 2.19).
"""

import contextlib
import os
import signal
import time
from pathlib import Path

MARKER = "EC2_BACKUP_RUN_ID"


def carrying(variable: str, value: str) -> list[int]:
    """The IDs of the processes, this one not among them, that have this variable with this value."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # Processes end while one looks, and those of other users may not be looked at.
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def of_run(run_id: str, command: str = "") -> list[int]:
    """The IDs of a run's processes, this one not among them; only of those named ``command`` if it is given."""
    found = []
    for pid in carrying(MARKER, run_id):
        with contextlib.suppress(OSError):
            if not command or Path(f"/proc/{pid}/comm").read_text().strip() == command:
                found.append(pid)
    return found


def tell(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(run_id: str, patience: float = 3.0) -> None:
    """End all processes of a run: ask, wait up to ``patience`` seconds, then kill. Zombies have no environment."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        left = of_run(run_id)
        tell(left, number)
        while left and time.monotonic() < deadline:
            time.sleep(0.05)  # the kernel tells of the end of children only, and these are not ours
            left = of_run(run_id)
        if not left:
            return
