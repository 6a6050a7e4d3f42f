# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup [backup] DIR``: backs a directory up onto a volume, and prints the volume's ID."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import FilterError, compose
from ansible_collections.ec2_backup.ebs.plugins.module_utils.runs import new_run_id
from ec2_backup.arguments import options, settings, types
from ec2_backup.arguments.parser import Parser
from ec2_backup.run.supervise import Supervised, attend, supervise
from ec2_backup.show import dry_run
from ec2_backup.show.display import watch
from ec2_backup.show.report import Report, failure_status, name, tell_failure
from ec2_backup.status import Status, UserError

EPILOG = """\
examples:
  ec2-backup /srv/data
  ec2-backup --exclude .cache --compress zstd /home
  ec2-backup -v vol-0123456789abcdef0 --verify /srv/data

`ec2-backup help` lists the other commands: restore, verify, list, cleanup.
"""

DETAILS = """\
environment:
  EC2_BACKUP_FLAGS_AWS  options as `aws ec2 run-instances` takes them, such as
                        "--instance-type t3.nano --subnet-id subnet-1"
  EC2_BACKUP_FLAGS_SSH  options for every ssh, such as "-i ~/key"
  EC2_BACKUP_VERBOSE    if not empty, as --verbose
  AWS_PROFILE, AWS_REGION, ...  as every AWS tool reads them

files:
  ~/.config/ec2-backup/config.yml  role variables, such as
                        `ec2_backup_instance_type: t3.nano`; an option has
                        precedence over the environment, and that over the file

exit status:
  0 done   1 failed, nothing left behind   2 wrong usage
  3 done, but some source files changed or could not be read
  4 failed, and something may be left behind
  128+N ended by signal N, nothing left behind

`ec2-backup cleanup` removes what was left behind; see its --help.
"""


def parser() -> Parser:
    """Return the parser of ``backup``, the command if none is named."""
    result = Parser(
        prog="ec2-backup",
        usage="ec2-backup [OPTION]... DIR",
        description="Back a directory up onto an Amazon EBS volume, and print the volume's ID.",
        epilog=EPILOG,
        details=DETAILS,
    )
    result.add_argument("directory", metavar="DIR", help="the directory to back up")
    result.add_argument(
        "-v", dest="volume", metavar="VOLUME_ID", type=types.volume_id, help="write to this volume, not to a new one"
    )
    result.add_argument("--verify", action="store_true", help="read it back before it counts as a backup")
    result.add_argument("--force", action="store_true", help="overwrite what the given volume holds")
    result.add_argument("--dry-run", action="store_true", help="check everything, print the plan, make nothing")
    add_selection(result)
    add_filters(result)
    options.add_instance(result)
    options.add_common(result)
    return result


def add_selection(result: argparse.ArgumentParser) -> None:
    """Add the options that exclude files."""
    group = result.add_argument_group("selection")
    group.add_argument(
        "--exclude", metavar="PATTERN", action="append", help="leave out what matches: *.o, /srv/cache, ./tmp"
    )
    group.add_argument(
        "--exclude-from",
        metavar="FILE",
        type=os.path.abspath,
        action="append",
        help="leave out what matches a line of this file",
    )
    group.add_argument("--exclude-caches", action="store_true", help="leave out what is marked by a CACHEDIR.TAG")
    group.add_argument("--one-file-system", action="store_true", help="leave out other filesystems that are mounted")


def add_filters(result: argparse.ArgumentParser) -> None:
    """Add the options for the filters that the archive is piped through."""
    group = result.add_argument_group("filters")
    group.add_argument("--compress", metavar="NAME[:LEVEL]", help="compress here: zstd, gzip, xz, lz4 or bzip2")
    group.add_argument("--encrypt", metavar="NAME:RECIPIENT", help="encrypt here: age:RECIPIENT or gpg:RECIPIENT")
    group.add_argument("-l", dest="local_filter", metavar="FILTER", help="pipe it through this command here instead")
    group.add_argument("-r", dest="remote_filter", metavar="FILTER", help="pipe it through this on the instance")


def check_filters(variables: Mapping[str, Any]) -> None:
    """Refuse wrong filters now, and not only when Ansible has started."""
    local, compress, encrypt = (
        str(variables.get(f"ec2_backup_{name}") or "") for name in ("local_filter", "compress", "encrypt")
    )
    if local and (compress or encrypt):
        raise UserError(
            "-l cannot be combined with --compress or --encrypt: put the whole pipeline into -l", Status.USAGE
        )
    try:
        compose(compress, encrypt)
    except FilterError as error:
        raise UserError(str(error), Status.USAGE) from error


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """Return the role variables that the arguments set."""
    asked = settings.given(
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
        dry_run=arguments.dry_run or None,
    )
    # The wrapper has to know the run's ID, to clean up after the run and to report what is left.
    settled = {"ec2_backup_source": os.path.abspath(arguments.directory), "ec2_backup_run_id": run_id}
    return settings.role_variables(arguments, {**asked, **settled})


def as_object(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the backup for programs; docs/json.md describes the fields.

    :param result: as the role returns it; fields may be missing if the run was killed at its end.
    """
    source = result.get("source") or {}
    return {
        "dry_run": False,
        "volume_id": result["volume_id"],
        "source": {"host": name(source.get("host")), "path": name(source.get("path"))},
        **{key: result.get(key) for key in ("bytes", "sha256", "stored_bytes", "size_gib", "zone", "region")},
    }


def conclude(run: Supervised, report: Report) -> int:
    """Print the volume's ID, or the error, and return the exit status."""
    outcome, result = run.outcome, run.result
    done = bool(result) and run.signal is None and run.left == []
    for warning in [*outcome.warnings, *(result["warnings"] if result else [])]:
        report.warn(warning)
    if done and outcome.rc != 0:
        report.warn(f"ansible-playbook ended with status {outcome.rc} when the backup was complete already")
    status = failure_status(run)
    if result:
        if done:
            status = Status.INCOMPLETE_SOURCE if result["warnings"] else Status.DONE
        volume = result["volume_id"]
        if not report.result(status, as_object(result), [volume], volume) and done:
            status = Status.FAILED
    if not done:
        tell_failure(run, report, bool(result))
    return report.end(status)


def main(argv: Sequence[str]) -> int:
    """Run the command ``backup``, and return the exit status."""
    arguments = parser().parse_args(argv)
    settings.check_environment()
    run_id = new_run_id()
    variables = role_variables(arguments, run_id)
    check_filters(variables)
    with watch(arguments) as observer:
        rehearsal = dry_run.asked_for(variables)
        if rehearsal:  # it makes nothing that would have to be cleaned up
            run = attend("backup", run_id, variables, observer)
        else:
            run = supervise("backup", variables, run_id, observer)
        observer.finish()
        report = Report("backup", run_id, observer.phases)
        return dry_run.conclude(run, report) if rehearsal else conclude(run, report)
