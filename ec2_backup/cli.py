# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line: arguments in, a volume ID on stdout, one line on stderr if it went wrong."""

import argparse
import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup import __version__
from ec2_backup.playbook import Playbook
from ec2_backup.status import Status, UserError, say
from ec2_backup.supervise import Supervised, by_hand, supervise

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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (try --help)", Status.USAGE)


def volume_id(text: str) -> str:
    """Check a volume ID's form: 8 hexadecimal digits in old accounts, 17 in all others."""
    if not re.fullmatch(r"vol-([0-9a-f]{8}|[0-9a-f]{17})", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a volume ID: those look like vol-0123456789abcdef0")
    return text


def assignment(text: str) -> tuple[str, Any]:
    """Split ``ec2_backup_NAME=VALUE``; a value that begins with ``[`` or ``{`` is JSON, any other is a string."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"ec2_backup_[a-z0-9_]+", name):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ec2_backup_NAME=VALUE")
    if not value.startswith(("[", "{")):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the value of {name} begins like JSON, but is none: {error}") from error


def parser() -> argparse.ArgumentParser:
    """The parser of ``backup``, which is also what is meant when no command is named."""
    result = Parser(
        prog="ec2-backup",
        description="Back a directory up onto an Amazon EBS volume, and print the volume's ID.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("directory", metavar="DIR", help="the directory to back up")
    result.add_argument("-v", dest="volume", metavar="VOLUME_ID", type=volume_id, help="write to this volume")
    result.add_argument("-l", dest="local_filter", metavar="FILTER", help="pipe the archive through this command here")
    result.add_argument(
        "-r", dest="remote_filter", metavar="FILTER", help="pipe the archive through this command on the instance"
    )
    result.add_argument(
        "--force", action="store_true", help="overwrite a filesystem or a partition table on the given volume"
    )
    add_common(result)
    result.add_argument("--version", action="version", version=f"ec2-backup {__version__}")
    return result


def add_common(result: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    result.add_argument(
        "-e",
        dest="variables",
        metavar="NAME=VALUE",
        type=assignment,
        action="append",
        default=[],
        help="set a variable of the roles, such as ec2_backup_volume_type=gp2",
    )
    result.add_argument("--verbose", action="store_true", help="name each step on stderr")


def on_task(arguments: argparse.Namespace) -> Callable[[str], None]:
    """What is done as a step begins: it is named on stderr if that was asked for."""
    return say if arguments.verbose or os.environ.get("EC2_BACKUP_VERBOSE") else lambda task: None


def check_environment() -> None:
    """Refuse options in the environment that would be refused later, when Ansible has started."""
    try:
        parse_aws_flags(os.environ.get("EC2_BACKUP_FLAGS_AWS"))
        parse_ssh_flags(os.environ.get("EC2_BACKUP_FLAGS_SSH"))
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error


def role_variables(arguments: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """The role variables that the arguments ask for; what was not given is left to the roles' defaults."""
    asked = {
        "ec2_backup_volume_id": arguments.volume,
        "ec2_backup_local_filter": arguments.local_filter,
        "ec2_backup_remote_filter": arguments.remote_filter,
        "ec2_backup_force": arguments.force or None,
        **dict(arguments.variables),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    # The wrapper has to know the run's ID to say what is left of it, whatever becomes of the playbook.
    return {**given, "ec2_backup_source": os.path.abspath(arguments.directory), "ec2_backup_run_id": run_id}


def new_run_id() -> str:
    """An ID that sorts by time and that nobody else has: ``20261122t184500z-1f2e3d4c``."""
    return time.strftime("%Y%m%dt%H%M%Sz-", time.gmtime()) + secrets.token_hex(4)


def emit(text: str) -> bool:
    """Print the result; return whether it got out (a closed pipe or a full disk keep it in)."""
    try:
        print(text, flush=True)
    except OSError as error:
        say(f"error: {text} could not be written to standard output: {error.strerror}")
        # Or the interpreter would try again, and complain, when it exits.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def conclude(run: Supervised, run_id: str) -> int:
    """Print the result, or the error, and return the status to leave with."""
    outcome, result = run.outcome, run.result
    for warning in [*outcome.warnings, *(result["warnings"] if result else [])]:
        say(f"warning: {warning}")
    printed = emit(result["volume_id"]) if result else False
    if run.signal is None and result and run.left == []:
        if outcome.rc != 0:
            say(f"warning: ansible-playbook ended with status {outcome.rc} when the backup was complete already")
        status = Status.INCOMPLETE_SOURCE if result["warnings"] else Status.DONE
        return status if printed else Status.FAILED
    log = f" (log: {outcome.log})" if outcome.log else ""
    if run.signal is None:
        cause = outcome.failures[0] if outcome.failures else f"ansible-playbook ended with status {outcome.rc}"
        say(f"error: {cause}{log}")
    elif result:
        say(f"{run.signal.name}: came when the backup was complete already")
    else:
        say(f"error: ended by {run.signal.name}{log}")
    if run.left == []:
        return Status.FAILED if run.signal is None else 128 + run.signal
    what = ", ".join(run.left) if run.left else f"what is tagged ec2-backup:run-id={run_id}"
    reason = next((failure for failure in outcome.failures if failure.startswith("cleaning up: ")), "")
    say(f"error: may be left behind: {what}; remove it with: {by_hand(run_id, outcome.region)}")
    if reason:
        say(f"error: {reason}")
    return Status.LEFT_BEHIND


def backup(argv: Sequence[str]) -> int:
    """The command ``backup``."""
    arguments = parser().parse_args(argv)
    check_environment()
    run_id = new_run_id()
    return conclude(supervise(role_variables(arguments, run_id), run_id, on_task(arguments)), run_id)


def cleanup_parser() -> argparse.ArgumentParser:
    """The parser of ``cleanup``."""
    result = Parser(
        prog="ec2-backup cleanup",
        description="Remove what backups left behind: all that is past its expiry, or all of one run.",
        allow_abbrev=False,
    )
    result.add_argument("--run-id", metavar="ID", help="remove what this run made, expired or not")
    result.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    add_common(result)
    return result


def cleanup(argv: Sequence[str]) -> int:
    """The command ``cleanup``: one line on stdout for each thing that it removed."""
    arguments = cleanup_parser().parse_args(argv)
    check_environment()
    variables = {
        **dict(arguments.variables),
        "ec2_backup_cleanup_run_id": arguments.run_id or "",
        "ec2_backup_cleanup_dry_run": arguments.dry_run,
    }
    outcome = Playbook("cleanup", variables, new_run_id()).run(on_task(arguments))
    told = outcome.stats.get("ec2_backup_cleanup") or {}
    for item in told.get("removed", []):
        emit(f"{item['action']} {item['kind']} {item['id']} of run {item['run_id']}")
    if outcome.rc == 0:
        return Status.DONE
    cause = outcome.failures[0] if outcome.failures else f"ansible-playbook ended with status {outcome.rc}"
    say(f"error: {cause}" + (f" (log: {outcome.log})" if outcome.log else ""))
    return Status.LEFT_BEHIND if told.get("left") else Status.FAILED


# A directory of such a name is given as ./NAME.
COMMANDS = {"backup": backup, "cleanup": cleanup}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names, ``backup`` if it names none, and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[words.pop(0)] if words and words[0] in COMMANDS else backup
    try:
        return int(command(words))
    except UserError as error:
        say(f"error: {error}")
        return error.status
