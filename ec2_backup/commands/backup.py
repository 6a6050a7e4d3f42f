# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup [backup] DIR``: a directory onto a volume, whose ID it prints."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.filters import FilterError, compose
from ec2_backup import __version__, options
from ec2_backup.report import conclude_failure, emit
from ec2_backup.status import Status, UserError, say
from ec2_backup.supervise import Supervised, supervise

EPILOG = """\
environment:
  EC2_BACKUP_FLAGS_AWS  options as `aws ec2 run-instances` takes them, such as
                        "--instance-type t3.nano --subnet-id subnet-1"
  EC2_BACKUP_FLAGS_SSH  options for every ssh, such as "-i ~/key"
  EC2_BACKUP_VERBOSE    if not empty, as --verbose
  AWS_PROFILE, AWS_REGION, ...  as every AWS tool reads them

exit status:
  0 done   1 failed, nothing left behind   2 wrong usage
  3 done, but some source files changed or could not be read
  4 failed, and something may be left behind
  128+N ended by signal N, nothing left behind

`ec2-backup cleanup` removes what was left behind; see its --help.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``backup``, which is also what is meant when no command is named."""
    result = options.Parser(
        prog="ec2-backup",
        description="Back a directory up onto an Amazon EBS volume, and print the volume's ID.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("directory", metavar="DIR", help="the directory to back up")
    result.add_argument("-v", dest="volume", metavar="VOLUME_ID", type=options.volume_id, help="write to this volume")
    add_selection(result)
    add_filters(result)
    result.add_argument("--verify", action="store_true", help="read the volume back before it counts as a backup")
    result.add_argument(
        "--force", action="store_true", help="overwrite a filesystem or a partition table on the given volume"
    )
    options.add_common(result)
    result.add_argument("--version", action="version", version=f"ec2-backup {__version__}")
    return result


def add_selection(result: argparse.ArgumentParser) -> None:
    """Add the options that leave something out."""
    group = result.add_argument_group("what is left out (see docs/filters.md)")
    group.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        help="leave out what matches: *.o, /srv/cache, ./tmp; may be repeated",
    )
    group.add_argument(
        "--exclude-from",
        metavar="FILE",
        type=os.path.abspath,
        action="append",
        help="leave out what matches a pattern of this file, one a line",
    )
    group.add_argument("--exclude-caches", action="store_true", help="leave out what is marked by a CACHEDIR.TAG")
    group.add_argument("--one-file-system", action="store_true", help="leave out other filesystems that are mounted")


def add_filters(result: argparse.ArgumentParser) -> None:
    """Add the options that say what the archive goes through."""
    group = result.add_argument_group("what the archive goes through")
    group.add_argument("--compress", metavar="NAME[:LEVEL]", help="compress here: zstd, gzip, xz, lz4 or bzip2")
    group.add_argument("--encrypt", metavar="NAME:RECIPIENT", help="encrypt here: age:RECIPIENT or gpg:RECIPIENT")
    group.add_argument("-l", dest="local_filter", metavar="FILTER", help="pipe it through this command here instead")
    group.add_argument(
        "-r", dest="remote_filter", metavar="FILTER", help="pipe it through this command on the instance"
    )


def check_filters(arguments: argparse.Namespace) -> None:
    """Refuse filters that would be refused later, when Ansible has started."""
    if arguments.local_filter and (arguments.compress or arguments.encrypt):
        raise UserError(
            "-l cannot be combined with --compress or --encrypt: put the whole pipeline into -l", Status.USAGE
        )
    try:
        compose(arguments.compress or "", arguments.encrypt or "")
    except FilterError as error:
        raise UserError(str(error), Status.USAGE) from error


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """The role variables that the arguments ask for."""
    asked = options.given(
        volume_id=arguments.volume,
        exclude=arguments.exclude,
        exclude_from=arguments.exclude_from,
        exclude_caches=arguments.exclude_caches or None,
        one_file_system=arguments.one_file_system or None,
        compress=arguments.compress,
        encrypt=arguments.encrypt,
        local_filter=arguments.local_filter,
        remote_filter=arguments.remote_filter,
        force=arguments.force or None,
        verify=arguments.verify or None,
    )
    # The wrapper has to know the run's ID to say what is left of it, whatever becomes of the playbook.
    settled = {"ec2_backup_source": os.path.abspath(arguments.directory), "ec2_backup_run_id": run_id}
    return {**asked, **dict(arguments.variables), **settled}


def conclude(run: Supervised, run_id: str) -> int:
    """Print the volume's ID, or the error, and return the status to leave with."""
    outcome, result = run.outcome, run.result
    for warning in [*outcome.warnings, *(result["warnings"] if result else [])]:
        say(f"warning: {warning}")
    printed = emit(result["volume_id"]) if result else False
    if run.signal is None and result and run.left == []:
        if outcome.rc != 0:
            say(f"warning: ansible-playbook ended with status {outcome.rc} when the backup was complete already")
        status = Status.INCOMPLETE_SOURCE if result["warnings"] else Status.DONE
        return status if printed else Status.FAILED
    return conclude_failure(run, run_id, bool(result))


def backup(argv: Sequence[str]) -> int:
    """The command ``backup``."""
    arguments = parser().parse_args(argv)
    check_filters(arguments)
    options.check_environment()
    run_id = options.new_run_id()
    with options.watch(arguments) as observer:
        run = supervise("backup", role_variables(arguments, run_id), run_id, observer)
        observer.finish()
        return conclude(run, run_id)
