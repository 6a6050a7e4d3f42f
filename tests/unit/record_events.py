"""Record anew what the roles report while they run, for tests of the wrapper that need no run.

    lab/run python -m tests.unit.record_events

Runs each playbook in a lab of its own (docs/lab.md) and writes ``tests/unit/data/events.json``. Of each event only what
the wrapper reads is kept. IDs, times, sums and names of this machine are replaced, so that a recording differs from the
one before only where the roles report something else. To be run when the milestones or the tasks of a role change.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones
from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup.run.playbook import Observer
from ec2_backup.run.supervise import Supervised, attend, supervise

DATA = Path(__file__).with_name("data") / "events.json"
STREAM_BYTES = 8 << 20  # of the file that is backed up

# A milestone is reported at once; a module takes its time. Both are made up, as no two runs take the same.
SOON, LATER = 0.05, 2.0

KEPT = {
    "playbook_on_task_start": ("task", "task_action"),
    "runner_on_failed": ("host", "task", "task_action", "ignore_errors"),
    "runner_on_unreachable": ("host", "task", "task_action"),
    "runner_on_ok": ("task_action",),
}
TIMES = {"seconds": 1.0, "age_seconds": 60}
RUN_ID = r"\d{8}t\d{6}z-[0-9a-f]{8}"
RESOURCE = r"(?P<kind>i|vol|sg|snap|subnet|vpc|ami)-(?:[0-9a-f]{17}|[0-9a-f]{8})"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
SUM = r"[0-9a-f]{64}"
ADDRESS = r"\d+\.\d+\.\d+\.\d+"
VOLATILE = re.compile(
    rf"\b(?:(?P<run>{RUN_ID})|{RESOURCE}|(?P<moment>{MOMENT})|(?P<sum>{SUM})|(?P<address>{ADDRESS}))\b"
)


class Stable:
    """Replaces what differs from run to run by values that do not; the same value always by the same one."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Take what has to be replaced literally, such as this host's name."""
        self.names = names
        self.seen: dict[str, dict[str, int]] = {}

    def __call__(self, value: Any) -> Any:
        """The value, with all that is volatile in it replaced, at any depth."""
        if isinstance(value, Mapping):
            return {self(key): TIMES.get(key) or self(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        if not isinstance(value, str):
            return value
        for name, replacement in self.names.items():
            value = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", replacement, value)
        return VOLATILE.sub(self._replacement, value)

    def _replacement(self, found: re.Match[str]) -> str:
        kind = found["kind"] or found.lastgroup or ""
        numbers = self.seen.setdefault(kind, {})
        number = numbers.setdefault(found[0], len(numbers) + 1)
        return {
            "run": f"20261122t184500z-{number:08x}",
            "moment": "2026-11-22T18:45:00Z",
            "sum": f"{number:064x}",
            "address": "203.0.113.7",
        }.get(kind, f"{found['kind']}-{number:017x}")


def condense(events: Iterable[Mapping[str, Any]], stable: Stable) -> Iterator[dict[str, Any]]:
    """What the wrapper reads of the events of a run, at made-up times."""
    at = 0.0
    for event in events:
        data = event.get("event_data") or {}
        kept = {key: data[key] for key in KEPT.get(event["event"], ()) if data.get(key) is not None}
        action = str(kept.get("task_action"))
        if event["event"] == "runner_on_ok":
            if action != milestones.ACTION:
                continue
            kept["res"] = {milestones.KEY: data["res"][milestones.KEY]}
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable"):
            kept["res"] = {key: data["res"][key] for key in ("msg",) if key in data["res"]}
        if not kept:
            continue
        yield {"at": round(at, 2), "event": event["event"], "event_data": stable(kept)}
        module = event["event"] == "playbook_on_task_start" and not action.startswith("ansible.builtin.")
        at += LATER if module and action != milestones.ACTION else SOON


class Recorder(Observer):
    """Keeps all events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def event(self, event: Mapping[str, Any]) -> None:
        self.events.append(json.loads(json.dumps(event)))


def run(playbook: str, makes: bool, **variables: Any) -> tuple[Supervised, list[dict[str, Any]]]:
    """Run a playbook with role variables, named without their prefix; return how it ended, and its events.

    :raises SystemExit: it failed.
    """
    run_id, recorder = new_run_id(), Recorder()
    named = {f"ec2_backup_{name}": value for name, value in variables.items()}
    if makes:
        ended = supervise(playbook, {**named, "ec2_backup_run_id": run_id}, run_id, recorder)
    else:
        ended = attend(playbook, run_id, named, recorder)
    if ended.outcome.rc != 0 or not ended.outcome.results:
        sys.exit(f"{playbook} failed: {ended.outcome.failures} (log: {ended.outcome.log})")
    return ended, recorder.events


def record(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Run all that is recorded, and return its events by name."""
    source, target, listing = directory / "data", directory / "restored", directory / "files"
    source.mkdir()
    (source / "file").write_bytes(bytes(STREAM_BYTES))
    os.utime(source / "file", (0, 0))
    found: dict[str, list[dict[str, Any]]] = {}
    _, found["plan"] = run("backup", False, source=str(source), dry_run=True)
    backup, found["backup"] = run("backup", True, source=str(source), verify=True)
    volume = (backup.result or {})["volume_id"]
    _, found["given"] = run("backup", True, source=str(source), volume_id=volume, force=True)
    _, found["restore"] = run("restore", True, volume_id=volume, target=str(target))
    _, found["files"] = run("restore", True, volume_id=volume, restore_listing=str(listing))
    _, found["verify"] = run("verify", True, volume_ids=[volume])
    _, found["list"] = run("list", False)
    _, found["cleanup"] = run("cleanup", False, cleanup_run_id="", cleanup_dry_run=True)
    shutil.rmtree(target, ignore_errors=True)
    hosts = {socket.gethostname(), socket.getfqdn()} - {"localhost"}  # which is also the name in the inventory
    stable = Stable({str(directory): "/srv", **dict.fromkeys(sorted(hosts), "web1")})
    return {name: list(condense(events, stable)) for name, events in found.items()}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as directory:
        recorded = record(Path(directory))
    write(recorded)


def write(recorded: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write the file, an event a line, for a diff to show what has changed."""
    parts = []
    for name, events in recorded.items():
        lines = ",\n".join(json.dumps(event, ensure_ascii=False) for event in events)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    DATA.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
