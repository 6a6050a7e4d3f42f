# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the commands' options have in common: how they are parsed, checked and named."""

import argparse
import json
import os
import re
import secrets
import sys
import time
from typing import Any, NoReturn

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup import display
from ec2_backup.status import Status, UserError

HEX = "([0-9a-f]{8}|[0-9a-f]{17})"  # 8 digits in old accounts, 17 in all others


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (try --help)", Status.USAGE)


def volume_id(text: str) -> str:
    """Check a volume ID's form."""
    if not re.fullmatch("vol-" + HEX, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a volume ID: those look like vol-0123456789abcdef0")
    return text


def volume_or_snapshot_id(text: str) -> str:
    """Check the form of a volume's or a snapshot's ID."""
    if not re.fullmatch("(vol|snap)-" + HEX, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ID of a volume or snapshot: those look like vol-0123456789abcdef0 and snap-…"
        )
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


def readable_file(text: str) -> str:
    """Return the absolute name of a file that can be read."""
    path = os.path.abspath(os.path.expanduser(text))
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from error
    return path


def add_undoing(result: argparse.ArgumentParser) -> None:
    """Add the options of the commands that read what was filtered: how that is undone."""
    result.add_argument("-l", dest="local_filter", metavar="FILTER", help="undo the local filter by this command")
    result.add_argument("-r", dest="remote_filter", metavar="FILTER", help="undo the remote filter by this command")
    result.add_argument(
        "--identity",
        metavar="FILE",
        type=readable_file,
        help="the secret key of what was encrypted with age",
    )


def undoing(arguments: argparse.Namespace) -> dict[str, Any]:
    """The role variables that those options ask for."""
    return given(
        restore_local_filter=arguments.local_filter,
        restore_remote_filter=arguments.remote_filter,
        restore_identity=arguments.identity,
    )


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
    result.add_argument(
        "--progress",
        choices=display.CHOICES,
        default="auto",
        help="show how far it is, on stderr: on a terminal; elsewhere too, in plain lines; not at all; as JSON",
    )


def watch(arguments: argparse.Namespace) -> display.Display:
    """What shows how far the command is, as it was asked for; a context."""
    verbose = bool(arguments.verbose or os.environ.get("EC2_BACKUP_VERBOSE"))
    return display.Display(display.choose(arguments.progress, verbose, sys.stderr, os.environ))


def check_environment() -> None:
    """Refuse options in the environment that would be refused later, when Ansible has started."""
    try:
        parse_aws_flags(os.environ.get("EC2_BACKUP_FLAGS_AWS"))
        parse_ssh_flags(os.environ.get("EC2_BACKUP_FLAGS_SSH"))
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error


def given(**asked: Any) -> dict[str, Any]:
    """Role variables without those that were not asked for, which are left to the roles' defaults."""
    return {f"ec2_backup_{name}": value for name, value in asked.items() if value is not None}


def new_run_id() -> str:
    """An ID that sorts by time and that nobody else has: ``20261122t184500z-1f2e3d4c``."""
    return time.strftime("%Y%m%dt%H%M%Sz-", time.gmtime()) + secrets.token_hex(4)
