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

    @property
    def result(self) -> dict[str, Any] | None:
        """What the play made; None unless it is complete."""
        found = self.outcome.stats.get("ec2_backup_results", {}).get("localhost")
        return dict(found) if found else None


def by_hand(run_id: str, region: str | None) -> str:
    """The command that cleans up after a run."""
    return f"ec2-backup cleanup --run-id {run_id}" + (f" -e ec2_backup_region={region}" if region else "")


def supervise(variables: Mapping[str, Any], run_id: str, on_task: Callable[[str], None]) -> Supervised:
    """Run the playbook ``backup`` with these role variables, and leave nothing of it behind."""
    play = Playbook("backup", variables, run_id)

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
            outcome.failures.append(f"{type(error).__name__}: {error}")
        settled = not outcome.launching or run_id in outcome.stats.get("ec2_backup_settled", {})
        left: list[str] | None = [] if settled else clean(variables, run_id, outcome, on_task)
    return Supervised(outcome, signals.first, left)


def clean(
    variables: Mapping[str, Any], run_id: str, outcome: Outcome, on_task: Callable[[str], None]
) -> list[str] | None:
    """Run the playbook ``cleanup`` for a run; return what is left then, as in ``Supervised``."""
    region = {"ec2_backup_region": outcome.region} if outcome.region else {}
    try:
        cleanup = Playbook("cleanup", {**variables, **region, "ec2_backup_cleanup_run_id": run_id}, run_id).run(on_task)
    except Exception as error:  # it has to be told what may be left
        outcome.failures.append(f"cleaning up: {type(error).__name__}: {error}")
        return list(outcome.made) or None
    told = cleanup.stats.get("ec2_backup_cleanup")
    if cleanup.rc == 0 and told is not None:
        return []
    outcome.failures.extend(f"cleaning up: {failure}" for failure in cleanup.failures)
    if told is not None and told.get("left"):
        return [str(item["id"]) for item in told["left"]]
    return list(outcome.made) or None
