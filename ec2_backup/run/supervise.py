# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a playbook, and see to it that nothing of it is left in the account, however it ended.

The play terminates its instance itself, but no ``always`` runs when Ansible is interrupted, killed or breaks down. So
unless the play reported that nothing is left, the playbook ``cleanup`` is run for its run ID. The cleanup also finds
out whether the account holds the run's backup: a call whose reply was lost may have committed it.
"""

import dataclasses
import shlex
import signal
from collections.abc import Mapping
from typing import Any

from ec2_backup.run.outcome import Outcome
from ec2_backup.run.playbook import Observer, Playbook
from ec2_backup.run.signals import caught
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
    """The run's volumes that the cleanup found tagged as complete, and detached."""

    @property
    def result(self) -> dict[str, Any] | None:
        """The backup as the role returns it, with ``volume_id`` and ``warnings`` at least; None if there is no backup.

        A play that was killed during the commit cannot return it, but the backup may exist: its volume is tagged as
        complete and detached. What the cleanup found in the account counts first; where the account could not be asked,
        what the play reported.
        """
        returned = self.outcome.results.get("ec2_backup_results", {}).get("localhost")
        if returned:
            return dict(returned)
        volume = next(iter([*self.complete, *filter(None, [self.outcome.committed])]), None)
        if volume is None:
            return None
        return {"warnings": [], **(self.outcome.prepared or {}), "volume_id": volume}


def by_hand(run_id: str, region: str | None, profile: str | None = None) -> str:
    """Return the command that cleans up after a run.

    :param run_id: empty for all runs that are past their expiry.
    """
    only = f" --run-id {run_id}" if run_id else ""
    # In another region or account it would find nothing, and report that as clean.
    named = {"profile": profile, "region": region}
    where = "".join(f" --{option} {shlex.quote(value)}" for option, value in named.items() if value)
    return f"ec2-backup cleanup{only}{where}"


def supervise(name: str, variables: Mapping[str, Any], run_id: str, observer: Observer) -> Supervised:
    """Run a playbook that makes something in the account, and clean up after it if it did not do so itself."""
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
        # A backup that was about to be committed and was not returned may exist all the same.
        uncertain = outcome.committing and (outcome.rc != 0 or "ec2_backup_results" not in outcome.results)
        left, complete = clean(variables, run_id, outcome, observer) if uncertain or not outcome.settled else ([], [])
    return Supervised(outcome, signals.first, [] if outcome.settled else left, tuple(complete))


def attend(name: str, run_id: str, variables: Mapping[str, Any], observer: Observer) -> Supervised:
    """Run a playbook that makes nothing in the account, so that there is nothing to clean up after a signal.

    :param run_id: marks its processes, and names its log.
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
    """Run a playbook. An exception on the way is recorded as its failure."""
    try:
        return play.run(observer)
    except Exception as error:  # of any kind: what the play has made so far must be cleaned up
        play.outcome.failures.append(f"the playbook could not be run: {in_words(error)}")
        if play.outcome.phase:  # it had begun, and may have reported more than was read
            play.outcome.settled = False
        return play.outcome


# A cleanup that ends without a result was interrupted, for instance by a signal to all processes: it is run again.
CLEANUPS = 3


def in_words(error: Exception) -> str:
    """Return an exception as a message for people."""
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
        except Exception as error:  # of any kind: what may be left has to be reported
            outcome.failures.append(f"cleaning up: {in_words(error)}")
            return list(outcome.made) or None, []
        told = cleanup.results.get("ec2_backup_cleanup") or {}
        if told:
            break
    complete = [str(volume) for volume in told.get("complete", [])]
    if cleanup.rc == 0 and told:
        return [], complete
    outcome.failures.extend(f"cleaning up: {failure}" for failure in cleanup.failures)
    left = [str(item["id"]) for item in told.get("left", [])]
    return left or list(outcome.made) or None, complete
