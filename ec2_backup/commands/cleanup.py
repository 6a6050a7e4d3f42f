# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup cleanup``: remove what backups have left behind."""

import argparse
from collections.abc import Sequence

from ec2_backup import options
from ec2_backup.playbook import Outcome, Playbook
from ec2_backup.report import emit, say_cause
from ec2_backup.status import Status


def parser() -> argparse.ArgumentParser:
    """The parser of ``cleanup``."""
    result = options.Parser(
        prog="ec2-backup cleanup",
        description="Remove what backups left behind: all that is past its expiry, or all of one run.",
    )
    result.add_argument("--run-id", metavar="ID", help="remove what this run made, expired or not")
    result.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    options.add_common(result)
    return result


def conclude(outcome: Outcome) -> int:
    """Print what was removed, and return the status to leave with."""
    told = outcome.stats.get("ec2_backup_cleanup") or {}
    for item in told.get("removed", []):
        emit(f"{item['action']} {item['kind']} {item['id']} of run {item['run_id']}")
    for item in told.get("would", []):
        emit(f"would be {item['action']}: {item['kind']} {item['id']} of run {item['run_id']}")
    if outcome.rc == 0:
        return Status.DONE
    say_cause(outcome)
    return Status.LEFT_BEHIND if told.get("left") else Status.FAILED


def cleanup(argv: Sequence[str]) -> int:
    """The command ``cleanup``: one line on stdout for each thing that it removed, or would remove."""
    arguments = parser().parse_args(argv)
    options.check_environment()
    variables = {
        **dict(arguments.variables),
        "ec2_backup_cleanup_run_id": arguments.run_id or "",
        "ec2_backup_cleanup_dry_run": arguments.dry_run,
    }
    with options.watch(arguments) as observer:
        outcome = Playbook("cleanup", variables, options.new_run_id()).run(observer)
        observer.finish()
        return conclude(outcome)
