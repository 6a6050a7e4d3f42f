# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup restore VOLUME TARGET``: restores a directory from a volume or a snapshot."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import unquote
from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup.arguments import options, settings, types
from ec2_backup.arguments.parser import Parser
from ec2_backup.run.supervise import Supervised, supervise
from ec2_backup.show.display import watch
from ec2_backup.show.report import Report, about_backup, end_failed, name
from ec2_backup.status import Status, UserError

EPILOG = """\
examples:
  ec2-backup restore vol-0123456789abcdef0 /srv/restored
  ec2-backup restore --path etc/passwd snap-0123456789abcdef0 /tmp/etc
"""


def parser() -> Parser:
    """Return the parser of ``restore``."""
    result = Parser(
        prog="ec2-backup restore",
        usage="ec2-backup restore [OPTION]... VOLUME [TARGET]",
        description="Restore a directory from a volume or a snapshot. The volume is only read.",
        epilog=EPILOG,
    )
    result.add_argument(
        "volume", metavar="VOLUME", type=types.volume_or_snapshot_id, help="a volume's or a snapshot's ID"
    )
    result.add_argument("target", metavar="TARGET", nargs="?", help="the directory, empty or absent")
    result.add_argument("--force", action="store_true", help="restore into a directory that is not empty")
    result.add_argument(
        "--path",
        dest="members",
        metavar="PATH",
        action="append",
        help="restore only this, a path in what was saved",
    )
    result.add_argument("--list-files", action="store_true", help="print the names, and write nothing")
    options.add_undoing(result)
    options.add_instance(result)
    options.add_common(result)
    return result


def role_variables(arguments: argparse.Namespace, run_id: str, listing: Path | None) -> dict[str, Any]:
    """Return the role variables that the arguments set."""
    asked = settings.given(
        members=arguments.members,
        restore_force=arguments.force or None,
    )
    settled = settings.given(
        volume_id=arguments.volume,
        run_id=run_id,
        target=os.path.abspath(arguments.target) if arguments.target else None,
        restore_listing=str(listing) if listing else None,
    )
    return settings.role_variables(arguments, {**asked, **options.undoing(arguments), **settled})


def conclude(run: Supervised, listing: Path | None, report: Report) -> int:
    """Report what could not be restored, print the list of files, and return the exit status."""
    restored = run.outcome.results.get("ec2_backup_restored", {}).get("localhost")
    for warning in run.outcome.warnings:
        report.warn(warning)
    if restored and restored["denied"]:
        report.warn(restored["denied"])
    if run.signal is None and restored and run.left == [] and run.outcome.rc == 0:
        return report.end(Status.DONE if print_result(restored, listing, report) else Status.FAILED)
    return end_failed(run, report)


def print_result(restored: Mapping[str, Any], listing: Path | None, report: Report) -> bool:
    """Print the object, or for people the list of files if there is one; return whether it was written."""
    if not report.as_json:
        return listing is None or print_file(listing, report)
    fields = {
        "volume_id": restored["volume_id"],
        "target": name(restored["target"]) or None,
        **{key: restored[key] for key in ("bytes", "sha256", "members")},
        "backup": about_backup(restored["manifest"]),
    }
    if listing is None:
        return report.result(Status.DONE, fields, [], "the result")
    return report.result(Status.DONE, fields, [], FILES, ("files", names(listing)))


FILES = "the list of files"


def names(listing: Path) -> Iterator[Any]:
    """Yield the names in a list of files. They are quoted there like by tar with ``--quoting-style=escape``."""
    with listing.open("rb") as lines:
        for line in lines:
            yield name(unquote(line.removesuffix(b"\n")))


def print_file(path: Path, report: Report) -> bool:
    """Copy a file to standard output; return whether it was written."""
    try:
        with path.open(errors="surrogateescape") as source:
            shutil.copyfileobj(source, sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        report.output_failed(FILES, error)
        return False
    return True


def main(argv: Sequence[str]) -> int:
    """Run the command ``restore``, and return the exit status."""
    arguments = parser().parse_args(argv)
    if arguments.list_files and arguments.target:
        raise UserError("with --list-files nothing is restored: leave TARGET out (try --help)", Status.USAGE)
    if not arguments.list_files and not arguments.target:
        raise UserError("the following arguments are required: TARGET (try --help)", Status.USAGE)
    settings.check_environment()
    run_id = new_run_id()
    with tempfile.TemporaryDirectory(prefix="ec2-backup-list-") as directory:
        listing = Path(directory) / "files" if arguments.list_files else None
        variables = role_variables(arguments, run_id, listing)
        with watch(arguments) as observer:
            run = supervise("restore", variables, run_id, observer)
            observer.finish()
            return conclude(run, listing, Report("restore", run_id, observer.phases))
