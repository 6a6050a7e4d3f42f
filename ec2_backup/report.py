# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a command's end is told: the result on stdout, all else on stderr, and the exit status."""

import contextlib
import os
import sys

from ec2_backup.playbook import Outcome
from ec2_backup.status import Status, say
from ec2_backup.supervise import Supervised, by_hand


def emit(text: str, what: str | None = None) -> bool:
    """Print the result; return whether it got out (a closed pipe or a full disk keep it in).

    :param what: what it is called if it does not; itself if not given.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        output_failed(what or text, error)
        return False
    return True


def output_failed(what: str, error: OSError) -> None:
    """Say that the result did not get out, and let the interpreter not try it again, and complain, when it exits."""
    say(f"error: {what} could not be written to standard output: {error.strerror}")
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_cause(outcome: Outcome) -> None:
    """Say why a playbook failed, and where its log is."""
    cause = outcome.failures[0] if outcome.failures else f"ansible-playbook ended with status {outcome.rc}"
    say(f"error: {cause}" + (f" (log: {outcome.log})" if outcome.log else ""))


def conclude_failure(run: Supervised, run_id: str, complete: bool = False) -> int:
    """Say how a run failed that is not simply done, and what is left of it; return the status to leave with.

    :param complete: its job was done nevertheless, before a signal or while cleaning up.
    """
    outcome = run.outcome
    if run.signal is None:
        say_cause(outcome)
    elif complete:
        say(f"{run.signal.name}: came when the backup was complete already")
    else:
        say(f"error: ended by {run.signal.name}" + (f" (log: {outcome.log})" if outcome.log else ""))
    if run.left == []:
        return Status.FAILED if run.signal is None else 128 + run.signal
    what = ", ".join(run.left) if run.left else f"what is tagged ec2-backup:run-id={run_id}"
    reason = next((failure for failure in outcome.failures if failure.startswith("cleaning up: ")), "")
    say(f"error: may be left behind: {what}; remove it with: {by_hand(run_id, outcome.region)}")
    if reason:
        say(f"error: {reason}")
    if outcome.tagged and not complete:
        say(
            f"warning: {outcome.volume_id} holds the whole backup, but it is not known whether it has left its "
            "instance; that command keeps it"
        )
    return Status.LEFT_BEHIND
