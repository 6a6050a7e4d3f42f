# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs an instance, as the API sees it: a process tree (lab/process) or a virtual machine (lab/vm)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .disk import Disk

POWERED_OFF = 10
"""Exit status of a machine whose operating system powered it off."""
CRASHED = 11
"""Exit status of a machine that ended in any other way, where it has no exit status of its own."""


class Machine(Protocol):
    """A machine that runs."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""

    @property
    def pid(self) -> int:
        """The PID of its first process in the lab's PID namespace; 0 before there is one."""

    def plug(self, disk: Disk) -> None:
        """Add a disk, as soon as the machine can take one."""

    def unplug(self, disk: Disk) -> None:
        """Remove a disk; return when the machine no longer has it."""

    def reboot(self) -> None:
        """Restart the operating system."""

    def stop(self) -> None:
        """Shut the operating system down, by force if it does not; return when the machine has ended."""

    def kill(self) -> None:
        """End it at once; return when it has ended."""

    def has_session(self) -> bool:
        """Return whether an SSH connection is open."""

    def ssh_bytes(self) -> int:
        """Return how many bytes the busiest SSH session has read so far."""

    def kill_sshd(self) -> None:
        """End all SSH sessions, and refuse new ones until the next boot."""


class MakeMachine(Protocol):
    """Starts a machine.

    :param ended: called once, from another thread, with the machine and its exit status.
    """

    def __call__(self, directory: Path, spec: dict[str, Any], ended: Callable[[Any, int], None]) -> Machine: ...
