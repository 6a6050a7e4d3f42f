"""The processes of the lab a case runs in, read from /proc: which are the product's, and which an instance's."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterable

MARKER = "EC2_FAULTS_RUN"


@dataclasses.dataclass(frozen=True)
class Process:
    """One process. ``namespace`` is its pid namespace: an instance has one of its own."""

    pid: int
    parent: int
    name: str
    argv: tuple[str, ...]
    namespace: str
    run: str
    """The value of MARKER in its environment: the number of the run it belongs to."""
    started: int

    def __str__(self) -> str:
        return f"{self.pid} {self.name}: {' '.join(self.argv)[:160]}"


def read(pid: int) -> Process | None:
    """One process; None if it is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
        fields = rest.split()
        if fields[0] in "ZX":
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = tuple(word.decode(errors="replace") for word in file.read().split(b"\0")[:-1])
        with open(f"/proc/{pid}/environ", "rb") as file:
            marks = [entry for entry in file.read().split(b"\0") if entry.startswith(MARKER.encode() + b"=")]
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
    run = marks[0].partition(b"=")[2].decode() if marks else ""
    return Process(pid, int(fields[1]), name, argv, namespace, run, int(fields[19]))


def everybody() -> dict[int, Process]:
    """All processes of this pid namespace and of those in it."""
    found = (read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process}


def descends(table: dict[int, Process], pid: int, ancestors: set[int]) -> bool:
    """Whether a process is one of these, or a descendant of one."""
    while pid in table:
        if pid in ancestors:
            return True
        pid = table[pid].parent
    return False


class Watch:
    """Remembers the processes before the first run, and so distinguishes those that the runs started."""

    def __init__(self) -> None:
        self._before = set(everybody()) - {os.getpid()}
        self._server = self._before - {1}
        self._namespace = os.readlink("/proc/self/ns/pid")

    def ours(self) -> list[Process]:
        """The processes that the runs started: not the lab's server, not those of the instances, not this one."""
        table = everybody()
        return [
            process
            for process in table.values()
            if process.namespace == self._namespace
            and process.pid not in {*self._before, os.getpid()}
            and not descends(table, process.pid, self._server)
        ]

    def instances(self) -> list[Process]:
        """The processes inside instances."""
        return [process for process in everybody().values() if process.namespace != self._namespace]

    def target(self, name: str, run: int) -> list[Process]:
        """The processes that are a step's target; empty if there are none at this moment."""
        ours = [process for process in self.ours() if process.run == str(run)]
        if name == "everything":
            return ours
        if name == "ansible":
            found = [process for process in ours if any(word.endswith("/ansible-playbook") for word in process.argv)]
            return sorted(found, key=lambda process: process.started)[:1]
        if name == "tar":
            return [process for process in ours if process.name == "tar" and "--file=-" in process.argv]
        if name == "ssh":
            return [process for process in ours if process.name == "ssh"]
        inside = self.instances()
        busy = {process.namespace for process in inside if " ".join(process.argv).startswith("sshd: ec2-backup")}
        wanted = {"sshd": ("sshd", "sshd-session"), "dd": ("dd",)}[name]
        return [process for process in inside if process.namespace in busy and process.name in wanted]


def send(targets: Iterable[Process], number: int) -> None:
    """Send a signal to each process that still exists."""
    for process in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def end_all(find: Callable[[], list[Process]], seconds: float = 5.0) -> None:
    """Send SIGKILL to all that ``find`` returns, again until it returns none, since some may fork meanwhile."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        send(found, signal.SIGKILL)
        time.sleep(0.01)
