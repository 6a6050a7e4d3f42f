# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup restore VOLUME TARGET``: the directory back from a volume or a snapshot."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ec2_backup import options
from ec2_backup.report import conclude_failure, output_failed
from ec2_backup.status import Status, UserError, say
from ec2_backup.supervise import Supervised, supervise

EPILOG = """\
examples:
  ec2-backup restore vol-0123456789abcdef0 /srv/restored
  ec2-backup restore --path etc/passwd snap-0123456789abcdef0 /tmp/etc
  ec2-backup restore --list-files vol-0123456789abcdef0
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``restore``."""
    result = options.Parser(
        prog="ec2-backup restore",
        description="Restore a directory from a volume or a snapshot. The volume is only read.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "volume", metavar="VOLUME", type=options.volume_or_snapshot_id, help="a volume's or a snapshot's ID"
    )
    result.add_argument("target", metavar="TARGET", nargs="?", help="the directory, empty or absent")
    result.add_argument("--force", action="store_true", help="restore into a directory that is not empty")
    result.add_argument(
        "--path",
        dest="members",
        metavar="PATH",
        action="append",
        help="restore only this, a path below what was saved; may be repeated",
    )
    result.add_argument("--list-files", action="store_true", help="print the names, and write nothing")
    options.add_undoing(result)
    options.add_common(result)
    return result


def role_variables(arguments: argparse.Namespace, run_id: str, listing: Path | None) -> dict[str, Any]:
    """The role variables that the arguments ask for."""
    asked = options.given(
        members=arguments.members,
        restore_force=arguments.force or None,
    )
    settled = options.given(
        volume_id=arguments.volume,
        run_id=run_id,
        target=os.path.abspath(arguments.target) if arguments.target else None,
        restore_listing=str(listing) if listing else None,
    )
    return {**asked, **options.undoing(arguments), **dict(arguments.variables), **settled}


def conclude(run: Supervised, run_id: str, listing: Path | None) -> int:
    """Say what could not be restored, print the list of files, and return the status to leave with."""
    restored = run.outcome.stats.get("ec2_backup_restored", {}).get("localhost")
    for warning in run.outcome.warnings:
        say(f"warning: {warning}")
    if restored and restored["denied"]:
        say(f"warning: {restored['denied']}")
    if run.signal is None and restored and run.left == [] and run.outcome.rc == 0:
        return Status.DONE if listing is None or print_file(listing) else Status.FAILED
    return conclude_failure(run, run_id)


def print_file(path: Path) -> bool:
    """Copy a file to standard output; return whether it got out."""
    try:
        with path.open(errors="surrogateescape") as source:
            shutil.copyfileobj(source, sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        output_failed("the list of files", error)
        return False
    return True


def restore(argv: Sequence[str]) -> int:
    """The command ``restore``."""
    arguments = parser().parse_args(argv)
    if arguments.list_files and arguments.target:
        raise UserError("with --list-files nothing is restored: leave TARGET out (try --help)", Status.USAGE)
    if not arguments.list_files and not arguments.target:
        raise UserError("the following arguments are required: TARGET (try --help)", Status.USAGE)
    options.check_environment()
    run_id = options.new_run_id()
    with tempfile.TemporaryDirectory(prefix="ec2-backup-list-") as directory, options.watch(arguments) as observer:
        listing = Path(directory) / "files" if arguments.list_files else None
        run = supervise("restore", role_variables(arguments, run_id, listing), run_id, observer)
        observer.finish()
        return conclude(run, run_id, listing)
