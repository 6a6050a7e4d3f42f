# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup cleanup``: removes what backups have left behind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup.arguments import options, settings
from ec2_backup.arguments.parser import Parser
from ec2_backup.run.supervise import Supervised, attend, by_hand
from ec2_backup.show.display import watch
from ec2_backup.show.report import Report, tell_failure
from ec2_backup.status import Status

EPILOG = """\
examples:
  ec2-backup cleanup --dry-run
  ec2-backup cleanup --run-id 20261122t184500z-1f2e3d4c
"""


def parser() -> Parser:
    """Return the parser of ``cleanup``."""
    result = Parser(
        prog="ec2-backup cleanup",
        usage="ec2-backup cleanup [OPTION]...",
        description="Remove what backups left behind: all that is past its expiry, or all of one run.",
        epilog=EPILOG,
    )
    result.add_argument("--run-id", metavar="ID", help="remove what this run made, expired or not")
    result.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    options.add_common(result)
    return result


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for people for each resource that was removed, or would be."""
    for item in told.get("removed", []):
        yield f"{item['action']} {item['kind']} {item['id']} of run {item['run_id']}"
    for item in told.get("would", []):
        yield f"would be {item['action']}: {item['kind']} {item['id']} of run {item['run_id']}"


def conclude(run: Supervised, asked: Mapping[str, Any], report: Report) -> int:
    """Print what was removed, and return the exit status.

    :param asked: the role variables.
    """
    outcome = run.outcome
    told = outcome.results.get("ec2_backup_cleanup") or {}
    left = [item["id"] for item in told.get("left", [])]
    done = run.signal is None and outcome.rc == 0 and bool(told)
    status = Status.DONE if done else 128 + run.signal if run.signal else Status.LEFT_BEHIND if left else Status.FAILED
    if told:
        fields = {
            "dry_run": asked["ec2_backup_cleanup_dry_run"],
            **{key: told.get(key, []) for key in ("removed", "would", "left", "kept", "complete")},
        }
        if not report.result(status, fields, lines(told), "what was removed") and done:
            return report.end(Status.FAILED)
    if not done:
        tell_failure(run, report)
        report.left = left or None
        report.remedy = by_hand(asked["ec2_backup_cleanup_run_id"], outcome.region, outcome.profile)
    return report.end(status)


def main(argv: Sequence[str]) -> int:
    """Run the command ``cleanup``, and return the exit status."""
    arguments = parser().parse_args(argv)
    settings.check_environment()
    settled = settings.given(cleanup_run_id=arguments.run_id or "", cleanup_dry_run=arguments.dry_run)
    variables = settings.role_variables(arguments, settled)
    with watch(arguments) as observer:
        run = attend("cleanup", new_run_id(), variables, observer)
        observer.finish()
        return conclude(run, variables, Report("cleanup", arguments.run_id, observer.phases))
