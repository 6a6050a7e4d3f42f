# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup verify VOLUME…``: reads backups back, and compares them with what was sent."""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup.arguments import options, settings, types
from ec2_backup.arguments.parser import Parser
from ec2_backup.run.supervise import Supervised, supervise
from ec2_backup.show.aws_errors import reworded
from ec2_backup.show.display import watch
from ec2_backup.show.report import Report, about_backup, failure_status, tell_failure
from ec2_backup.status import Status, say

EPILOG = """\
examples:
  ec2-backup verify vol-0123456789abcdef0 snap-0123456789abcdef0
  ec2-backup verify --against /srv/data vol-0123456789abcdef0
"""

DETAILS = """\
The data is read back on an instance, and its SHA-256 is compared there: only
the result leaves AWS. With --against the archive is sent here, and compared
with a directory.
"""


def parser() -> Parser:
    """Return the parser of ``verify``."""
    result = Parser(
        prog="ec2-backup verify",
        usage="ec2-backup verify [OPTION]... VOLUME...",
        description="Read backups back, and compare them with what was sent. Prints a line for each.",
        epilog=EPILOG,
        details=DETAILS,
    )
    result.add_argument(
        "volumes", metavar="VOLUME", nargs="+", type=types.volume_or_snapshot_id, help="volumes or snapshots"
    )
    result.add_argument("--against", metavar="DIR", help="compare with this directory too")
    options.add_undoing(result)
    options.add_instance(result)
    options.add_common(result)
    return result


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """Return the role variables that the arguments set."""
    asked = settings.given(
        verify_against=os.path.abspath(arguments.against) if arguments.against else None,
    )
    settled = {"ec2_backup_volume_ids": list(dict.fromkeys(arguments.volumes)), "ec2_backup_run_id": run_id}
    return settings.role_variables(arguments, {**asked, **options.undoing(arguments), **settled})


def as_object(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Return the finding about one volume, for programs; docs/json.md describes the fields."""
    members = finding.get("members", -1)
    return {
        "volume_id": finding["volume_id"],
        "good": finding["good"],
        "checked": finding["checked"],
        "message": message(finding),
        "backup": about_backup(finding.get("manifest") or {}),
        "members": members if members >= 0 else None,
        "differences": finding.get("differences", []),
        "differences_count": finding.get("differences_count", 0),
    }


def message(finding: Mapping[str, Any]) -> str:
    """Return the finding about one volume as a sentence, without the volume's ID."""
    text = " ".join(finding["message"].split())
    text = text if finding["good"] else reworded(text)
    return text.removeprefix(f"Volume {finding['volume_id']}: ").removeprefix("good, ")


def word(finding: Mapping[str, Any]) -> str:
    """Return the finding about one volume in one word."""
    if not finding["checked"]:
        return "unchecked"
    return "good" if finding["good"] else "differs" if finding.get("differences") else "BAD"


def lines(verified: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for people for each volume. The differences are printed on stderr in between."""
    for finding in verified:
        yield f"{finding['volume_id']} {word(finding)}: {message(finding)}"
        for difference in finding.get("differences", []):
            say(difference)


def conclude(run: Supervised, report: Report) -> int:
    """Print a line for each volume and its differences, and return the exit status."""
    verified = run.outcome.results.get("ec2_backup_verified", {}).get("localhost") or []
    bad = [finding for finding in verified if not finding["good"]]
    ended = bool(verified) and run.signal is None and run.left == []
    status = failure_status(run) if not ended or bad else Status.DONE
    for warning in run.outcome.warnings:
        report.warn(warning)
    if verified:
        fields = {"volumes": [as_object(finding) for finding in verified]}
        if not report.result(status, fields, lines(verified), "the result") and ended:
            status = Status.FAILED
    if bad and report.as_json:
        report.log = run.outcome.log
        told = ", ".join(f"{finding['volume_id']} ({word(finding)})" for finding in bad)
        report.error(f"{len(bad)} of {len(verified)} are not good: {told}")
    if not ended:
        tell_failure(run, report)
    return report.end(status)


def main(argv: Sequence[str]) -> int:
    """Run the command ``verify``, and return the exit status."""
    arguments = parser().parse_args(argv)
    settings.check_environment()
    run_id = new_run_id()
    variables = role_variables(arguments, run_id)
    with watch(arguments) as observer:
        run = supervise("verify", variables, run_id, observer)
        observer.finish()
        return conclude(run, Report("verify", run_id, observer.phases))
