# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options that several commands share, and finding the command in a command line."""

import argparse
import os
from collections.abc import Collection, Sequence
from typing import Any

from ec2_backup.arguments.parser import Parser
from ec2_backup.arguments.settings import given
from ec2_backup.arguments.suggest import nearest
from ec2_backup.arguments.types import assignment, instance_type, readable_file, tag
from ec2_backup.show import display
from ec2_backup.status import Status, UserError


def find_command(words: Sequence[str], commands: Collection[str]) -> tuple[str | None, list[str]]:
    """Find the command in a command line. Options that all commands have may precede it.

    :returns: the command, None if none is named, and the other words.
    :raises UserError: the first argument is neither a command nor a directory, but looks like a misspelled command.
    """
    common = Parser()
    add_common(common)
    position = 0
    while position < len(words) and words[position].startswith("-"):
        name, equals, _ = words[position].partition("=")
        action = common._option_string_actions.get(name)
        if action is None:
            return None, list(words)
        position += 2 if action.nargs is None and not equals else 1
    word = words[position] if position < len(words) else ""
    if word in commands:
        return word, [*words[:position], *words[position + 1 :]]
    meant = None if "/" in word or os.path.lexists(word) else nearest(word, commands)
    if meant:
        raise UserError(
            f"{word} is neither a command nor a directory that exists: did you mean `ec2-backup {meant}`? (try --help)",
            Status.USAGE,
        )
    return None, list(words)


def add_undoing(result: argparse.ArgumentParser) -> None:
    """Add the options of the commands that read a backup: the commands that undo its filters."""
    group = result.add_argument_group("filters")
    group.add_argument("-l", dest="local_filter", metavar="FILTER", help="undo the local filter by this command")
    group.add_argument("-r", dest="remote_filter", metavar="FILTER", help="undo the remote filter by this command")
    group.add_argument(
        "--identity",
        metavar="FILE",
        type=readable_file,
        help="the secret key of what was encrypted with age",
    )


def undoing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the role variables that the options of ``add_undoing`` set."""
    return given(
        restore_local_filter=arguments.local_filter,
        restore_remote_filter=arguments.remote_filter,
        restore_identity=arguments.identity,
    )


def add_instance(result: Parser) -> None:
    """Add the options of the commands that launch an instance."""
    group = result.instance = result.add_argument_group("instance")
    group.add_argument("--instance-type", metavar="TYPE", type=instance_type, help="launch this type, not a t3.small")
    group.add_argument("--name", metavar="NAME", help="the Name tag of what is made")
    group.add_argument(
        "--tag", dest="tags", metavar="KEY=VALUE", type=tag, action="append", help="a further tag; may be repeated"
    )


def add_common(result: Parser) -> None:
    """Add the options that every command has."""
    group = result.common
    group.add_argument("--profile", metavar="NAME", help="the AWS profile to use")
    group.add_argument("--region", metavar="NAME", help="the AWS region to work in")
    group.add_argument("--config", metavar="FILE", help="read this, not ~/.config/ec2-backup/config.yml")
    group.add_argument(
        "-e",
        dest="variables",
        metavar="NAME=VALUE",
        type=assignment,
        action="append",
        default=[],
        help="set a role variable: ec2_backup_volume_type=gp2",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object, and errors as one")
    group.add_argument("--verbose", action="store_true", help="name each step on stderr")
    group.add_argument(
        "--progress",
        metavar="WHEN",
        choices=display.CHOICES,
        default="auto",
        help="show how far it is: auto, always, never or json",
    )
