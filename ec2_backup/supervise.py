# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a backup so that every way out ends clean.

The play terminates its instance itself, but no ``always`` runs when Ansible is interrupted, killed or breaks down. So
whatever way the play ended, unless it said itself that nothing is left, the playbook ``cleanup`` runs for its run ID.
"""

import dataclasses
import signal
from collections.abc import Callable, Mapping
from typing import Any

from ec2_backup.playbook import Outcome, Playbook
from ec2_backup.signals import caught
from ec2_backup.status import say


@dataclasses.dataclass
class Supervised:
    """How a supervised run ended."""

    outcome: Outcome
    """How the play ended."""
    signal: signal.Signals | None
    """The first signal that asked for the end."""
    left: list[str] | None
    """What may be left in the account, by ID; empty if nothing is; None if that is not known."""

    detached: frozenset[str] = frozenset()
    """The volumes that the cleanup detached."""

    @property
    def result(self) -> dict[str, Any] | None:
        """The backup's ``volume_id`` and ``warnings``; None unless it is complete and committed.

        A play that was killed after the commit cannot report it any more, but the backup is there: a volume that is
        tagged complete and has left its instance. One that was made by the run has, if it was detached before the
        instance went; one that was given, as soon as the instance is gone.
        """
        found = self.outcome.stats.get("ec2_backup_results", {}).get("localhost")
        if found:
            return dict(found)
        volume = self.outcome.volume_id
        gone = self.left == []
        has_left = self.outcome.detached or volume in self.detached or (self.outcome.given and gone)
        if volume and self.outcome.tagged and has_left:
            return {"volume_id": volume, "warnings": self.outcome.source_warnings}
        return None


def by_hand(run_id: str, region: str | None) -> str:
    """The command that cleans up after a run."""
    return f"ec2-backup cleanup --run-id {run_id}" + (f" -e ec2_backup_region={region}" if region else "")


def supervise(name: str, variables: Mapping[str, Any], run_id: str, on_task: Callable[[str], None]) -> Supervised:
    """Run the playbook of that name with these role variables, and leave nothing of it behind."""
    play = Playbook(name, variables, run_id)

    def on_signal(number: signal.Signals, is_first: bool) -> None:
        if is_first:
            say(f"{number.name}: ending run {run_id} and cleaning up after it")
            play.interrupt()
        else:
            say(
                f"{number.name}: still cleaning up after run {run_id}; if this is cut short, do it by hand: "
                + by_hand(run_id, play.outcome.region)
            )

    with caught(on_signal) as signals:
        try:
            outcome = play.run(on_task)
        except Exception as error:  # whatever broke, the account has to be looked after
            outcome = play.outcome
            outcome.failures.append(f"the playbook could not be run: {in_words(error)}")
        settled = not outcome.launching or outcome.stats.get("ec2_backup_settled", {}).get(run_id)
        left, detached = ([], []) if settled else clean(variables, run_id, outcome, on_task)
    return Supervised(outcome, signals.first, left, frozenset(detached))


def in_words(error: Exception) -> str:
    """An exception as a person would put it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) or type(error).__name__


def clean(
    variables: Mapping[str, Any], run_id: str, outcome: Outcome, on_task: Callable[[str], None]
) -> tuple[list[str] | None, list[str]]:
    """Run the playbook ``cleanup`` for a run; return what is left and what was detached, as in ``Supervised``."""
    region = {"ec2_backup_region": outcome.region} if outcome.region else {}
    try:
        cleanup = Playbook("cleanup", {**variables, **region, "ec2_backup_cleanup_run_id": run_id}, run_id).run(on_task)
    except Exception as error:  # it has to be told what may be left
        outcome.failures.append(f"cleaning up: {in_words(error)}")
        return list(outcome.made) or None, []
    told = cleanup.stats.get("ec2_backup_cleanup") or {}
    detached = [str(item["id"]) for item in told.get("removed", []) if item["action"] == "detached"]
    if cleanup.rc == 0 and told:
        return [], detached
    outcome.failures.extend(f"cleaning up: {failure}" for failure in cleanup.failures)
    left = [str(item["id"]) for item in told.get("left", [])]
    return left or list(outcome.made) or None, detached
