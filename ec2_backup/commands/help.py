# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup help [COMMAND]``: lists the commands, or describes one of them."""

import argparse
from collections.abc import Iterator, Sequence

from ec2_backup import commands
from ec2_backup.arguments.parser import Parser
from ec2_backup.help import grammar, manual
from ec2_backup.show.report import Report, emit_result
from ec2_backup.status import Status

EPILOG = """\
examples:
  ec2-backup help
  ec2-backup help restore
  ec2-backup help --man restore | man -l -
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``help``."""
    result = Parser(
        prog="ec2-backup help",
        description="List the commands, or describe one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "command", metavar="COMMAND", nargs="?", choices=commands.COMMANDS, help="describe this command"
    )
    result.add_argument("--man", action="store_true", help="print its man page, as the source that man(1) reads")
    return result


def overview() -> Iterator[str]:
    """Yield the lines of the list of commands."""
    described = commands.describe()
    broad = max(len(command.name) for command in described)
    yield "usage: ec2-backup [OPTION ...] DIR"
    yield "       ec2-backup COMMAND [OPTION ...] [ARGUMENT ...]"
    yield ""
    yield "commands:"
    for command in described:
        yield f"  {command.name:{broad}}  {command.summary}"
    yield ""
    yield f"Without a command, {grammar.DEFAULT} is run. A directory that is named like a command"
    yield "is given as ./NAME."
    yield "More about a command: ec2-backup help COMMAND, or man ec2-backup-COMMAND."


def main(argv: Sequence[str]) -> int:
    """Run the command ``help``, and return the exit status."""
    arguments = parser().parse_args(argv)
    if arguments.man:
        name = "-".join(filter(None, [grammar.PROGRAM, arguments.command]))
        lines = manual.pages(commands.describe())[name].splitlines()
    elif arguments.command:
        lines = commands.module(arguments.command).parser().format_help().splitlines()
    else:
        lines = list(overview())
    return emit_result(Report("help", None, {}), Status.DONE, {}, lines, "the help")
