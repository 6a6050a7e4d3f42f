# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a playbook came, by the events of its run.

Two kinds of events are read: the milestones that the roles report (docs/milestones.md), and what Ansible itself reports
of any play: a task has failed, a host is unreachable. Nothing here depends on which tasks a role has, what they are
called, or which modules they use.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones


@dataclasses.dataclass
class Outcome:
    """How far a playbook came, and how it ended."""

    rc: int = 1
    """The exit status of ansible-playbook; negative: a signal of that number ended it."""
    phase: str = ""
    """The phase that was reported last."""
    failures: list[str] = dataclasses.field(default_factory=list)
    """The messages of the tasks that failed and were not recovered from, the first one first."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """The warnings that the roles reported."""
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the play returned, by name. Empty if it did not come to its end."""
    settled: bool = True
    """Whether nothing is in the account that has to be removed."""
    prepared: dict[str, Any] | None = None
    """The backup's result, as it will be returned if the commit succeeds; None until all data is on the volume."""
    volume_id: str | None = None
    """The volume that is written to."""
    given: bool = False
    """Whether that volume was there before the run."""
    complete: str | None = None
    """The volume that was tagged as complete."""
    committed: str | None = None
    """The volume that was detached from its instance after that. With the detachment the backup exists."""
    made: dict[str, None] = dataclasses.field(default_factory=dict)
    """The IDs of what the run made, as far as they are known, in that order."""
    region: str | None = None
    """The region that was asked for, or that the run reported; None if the AWS configuration decides."""
    profile: str | None = None
    """The AWS profile that was asked for, or that the run reported; None if the AWS configuration decides."""
    log: Path | None = None
    """Where Ansible's own output of a failed run is kept."""

    @property
    def committing(self) -> bool:
        """Whether all data is on the volume: what is left to do is to commit it and to end the instance."""
        return self.prepared is not None


def milestone(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the milestone that an event of ansible-runner reports; empty if it reports none."""
    data = event.get("event_data") or {}
    # The item's event is there for a task with a loop, whose own event holds a list of results.
    if event.get("event") not in ("runner_on_ok", "runner_item_on_ok") or data.get("task_action") != milestones.ACTION:
        return {}
    return (data.get("res") or {}).get(milestones.KEY) or {}


def record(outcome: Outcome, event: Mapping[str, Any]) -> None:
    """Take one event of ansible-runner into the outcome."""
    data = event.get("event_data") or {}
    match event.get("event"):
        case "runner_on_failed" if not data.get("ignore_errors"):
            outcome.failures.append(message(data))
        case "runner_on_unreachable":
            outcome.failures.append(f"Host {data.get('host')} is unreachable: {message(data)}")
        case _:
            _record_milestone(outcome, milestone(event))


def _record_milestone(outcome: Outcome, said: Mapping[str, Any]) -> None:
    outcome.phase = said.get("phase", outcome.phase)
    outcome.warnings += said.get("warning", [])
    outcome.results |= said.get("result", {})
    outcome.settled = said.get("settled", outcome.settled)
    outcome.region = said.get("region") or outcome.region
    outcome.profile = said.get("profile") or outcome.profile
    outcome.prepared = said.get("committing", outcome.prepared)
    outcome.complete = said.get("complete", outcome.complete)
    outcome.committed = said.get("committed", outcome.committed)
    if said.get("recovered"):
        outcome.failures.clear()
    if "volume" in said:
        outcome.volume_id, outcome.given = said["volume"]["volume_id"], said["volume"]["given"]
        if not outcome.given:
            outcome.made[said["volume"]["volume_id"]] = None
    if "resource" in said:
        outcome.made[said["resource"]["id"]] = None


def message(data: Mapping[str, Any]) -> str:
    """Return a failed task's own message, in one line.

    :param data: the ``event_data`` of the failure.
    """
    result = data.get("res") or {}
    result = next((item for item in result.get("results") or [] if item.get("failed")), result)  # of a loop
    text = result.get("msg") or result.get("module_stderr") or f"the task {data.get('task')!r} failed"
    return " ".join(str(text).split())
