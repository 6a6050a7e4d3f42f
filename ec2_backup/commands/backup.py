# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup [backup] DIR``: a directory onto a volume, whose ID it prints."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ec2_backup import __version__, options
from ec2_backup.report import conclude_failure, emit
from ec2_backup.status import Status, say
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
    result.add_argument("-l", dest="local_filter", metavar="FILTER", help="pipe the archive through this command here")
    result.add_argument(
        "-r", dest="remote_filter", metavar="FILTER", help="pipe the archive through this command on the instance"
    )
    result.add_argument("--verify", action="store_true", help="read the volume back before it counts as a backup")
    result.add_argument(
        "--force", action="store_true", help="overwrite a filesystem or a partition table on the given volume"
    )
    options.add_common(result)
    result.add_argument("--version", action="version", version=f"ec2-backup {__version__}")
    return result


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """The role variables that the arguments ask for."""
    asked = options.given(
        volume_id=arguments.volume,
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
    options.check_environment()
    run_id = options.new_run_id()
    return conclude(supervise("backup", role_variables(arguments, run_id), run_id, options.on_task(arguments)), run_id)
