# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a backup so that every way out ends clean.

The play terminates its instance itself, but no ``always`` runs when Ansible is interrupted, killed or breaks down. So
whatever way the play ended, unless it said itself that nothing is left, the playbook ``cleanup`` runs for its run ID.
That tells too whether the account holds the run's backup: a call whose reply was lost may have committed it.
"""

import dataclasses
import shlex
import signal
from collections.abc import Mapping
from typing import Any

from ec2_backup.playbook import Observer, Outcome, Playbook
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

    complete: tuple[str, ...] = ()
    """The run's volumes that the cleanup saw to be complete and free."""

    @property
    def result(self) -> dict[str, Any] | None:
        """The backup as the role hands it back: its ``volume_id`` and ``warnings`` at least; None unless it is complete
        and committed.

        A play that broke off or was killed about the commit cannot report it, but the backup may be there: a volume
        that is tagged complete and has left its instance. The account knows; what the play did counts where it does
        not answer.
        """
        found = self.outcome.stats.get("ec2_backup_results", {}).get("localhost")
        if found:
            return dict(found)
        committed = [self.outcome.volume_id] if self.outcome.tagged and self.outcome.detached else []
        volume = next(iter([*self.complete, *committed]), None)
        known = {**self.outcome.written, "volume_id": volume, "warnings": self.outcome.source_warnings}
        return known if volume else None


def by_hand(run_id: str, region: str | None, profile: str | None = None) -> str:
    """The command that cleans up after a run; after all runs that are past their expiry if none is named."""
    only = f" --run-id {run_id}" if run_id else ""
    # Elsewhere, or as somebody else, it would find nothing, and call that clean.
    named = {"profile": profile, "region": region}
    where = "".join(f" --{option} {shlex.quote(value)}" for option, value in named.items() if value)
    return f"ec2-backup cleanup{only}{where}"


def supervise(name: str, variables: Mapping[str, Any], run_id: str, observer: Observer) -> Supervised:
    """Run the playbook of that name with these role variables, and leave nothing of it behind."""
    play = Playbook(name, variables, run_id)

    def on_signal(number: signal.Signals, is_first: bool) -> None:
        if is_first:
            say(f"{number.name}: ending run {run_id} and cleaning up after it")
            play.interrupt()
        else:
            say(
                f"{number.name}: still cleaning up after run {run_id}; if this is cut short, do it by hand: "
                + by_hand(run_id, play.outcome.region, play.outcome.profile)
            )

    with caught(on_signal) as signals:
        outcome = attempt(play, observer)
        settled = not outcome.launching or outcome.stats.get("ec2_backup_settled", {}).get(run_id)
        may_be_complete = outcome.committing and outcome.rc != 0
        left, complete = ([], []) if settled and not may_be_complete else clean(variables, run_id, outcome, observer)
    return Supervised(outcome, signals.first, [] if settled else left, tuple(complete))


def attend(name: str, run_id: str, variables: Mapping[str, Any], observer: Observer) -> Supervised:
    """Run a playbook that makes nothing in the account: a signal ends it in order, and there is nothing to clean up.

    :param run_id: what its processes are known by, and its log.
    """
    play = Playbook(name, variables, run_id)

    def on_signal(number: signal.Signals, is_first: bool) -> None:
        if is_first:
            say(f"{number.name}: ending")
            play.interrupt()

    with caught(on_signal) as signals:
        outcome = attempt(play, observer)
    return Supervised(outcome, signals.first, [])


def attempt(play: Playbook, observer: Observer) -> Outcome:
    """Run a playbook; if it cannot be run, that is its failure."""
    try:
        return play.run(observer)
    except Exception as error:  # whatever broke, the account may have to be looked after
        play.outcome.failures.append(f"the playbook could not be run: {in_words(error)}")
        return play.outcome


# A cleanup that ends without a result was broken off, by a signal to all there is for instance: it is begun again.
CLEANUPS = 3


def in_words(error: Exception) -> str:
    """An exception as a person would put it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) or type(error).__name__


def clean(
    variables: Mapping[str, Any], run_id: str, outcome: Outcome, observer: Observer
) -> tuple[list[str] | None, list[str]]:
    """Run the playbook ``cleanup`` for a run; return what is left and what is complete, as in ``Supervised``."""
    region = {"ec2_backup_region": outcome.region} if outcome.region else {}
    for _ in range(CLEANUPS):
        try:
            play = Playbook("cleanup", {**variables, **region, "ec2_backup_cleanup_run_id": run_id}, run_id)
            cleanup = play.run(observer)
        except Exception as error:  # it has to be told what may be left
            outcome.failures.append(f"cleaning up: {in_words(error)}")
            return list(outcome.made) or None, []
        told = cleanup.stats.get("ec2_backup_cleanup") or {}
        if told:
            break
    complete = [str(volume) for volume in told.get("complete", [])]
    if cleanup.rc == 0 and told:
        return [], complete
    outcome.failures.extend(f"cleaning up: {failure}" for failure in cleanup.failures)
    left = [str(item["id"]) for item in told.get("left", [])]
    return left or list(outcome.made) or None, complete
