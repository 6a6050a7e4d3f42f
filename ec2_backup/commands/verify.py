# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup verify VOLUME…``: read backups back, and compare them with what was sent."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ec2_backup import options
from ec2_backup.report import conclude_failure, emit
from ec2_backup.status import Status, say
from ec2_backup.supervise import Supervised, supervise

EPILOG = """\
The data is read back on an instance, and its SHA-256 compared there: nothing but the result leaves AWS.
With --against the archive is sent here, to be compared with a directory.

examples:
  ec2-backup verify vol-0123456789abcdef0 snap-0123456789abcdef0
  ec2-backup verify --against /srv/data vol-0123456789abcdef0
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``verify``."""
    result = options.Parser(
        prog="ec2-backup verify",
        description="Read backups back, and compare them with what was sent. Prints a line for each.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "volumes", metavar="VOLUME", nargs="+", type=options.volume_or_snapshot_id, help="volumes or snapshots"
    )
    result.add_argument("--against", metavar="DIR", help="compare with this directory too, and name the differences")
    options.add_undoing(result)
    options.add_common(result)
    return result


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """The role variables that the arguments ask for."""
    asked = options.given(
        verify_against=os.path.abspath(arguments.against) if arguments.against else None,
    )
    settled = {"ec2_backup_volume_ids": list(dict.fromkeys(arguments.volumes)), "ec2_backup_run_id": run_id}
    return {**asked, **options.undoing(arguments), **dict(arguments.variables), **settled}


def conclude(run: Supervised, run_id: str) -> int:
    """Print a line for each volume, name the differences, and return the status to leave with."""
    verified = run.outcome.stats.get("ec2_backup_verified", {}).get("localhost") or []
    printed = True
    for finding in verified:
        good = "good" if finding["good"] else "differs" if finding.get("differences") else "BAD"
        message = finding["message"].strip().removeprefix(f"Volume {finding['volume_id']}: ").removeprefix("good, ")
        printed = emit(f"{finding['volume_id']} {good}: {message}") and printed
        for difference in finding.get("differences", []):
            say(difference)
    if run.signal is None and run.left == [] and verified:
        return Status.DONE if printed and all(finding["good"] for finding in verified) else Status.FAILED
    return conclude_failure(run, run_id)


def verify(argv: Sequence[str]) -> int:
    """The command ``verify``."""
    arguments = parser().parse_args(argv)
    options.check_environment()
    run_id = options.new_run_id()
    with options.watch(arguments) as observer:
        run = supervise("verify", role_variables(arguments, run_id), run_id, observer)
        observer.finish()
        return conclude(run, run_id)
