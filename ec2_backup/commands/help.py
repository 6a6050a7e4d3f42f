# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup help [COMMAND]``: what commands there are, or what one of them understands."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from ec2_backup import grammar, manual, options
from ec2_backup.report import Report, emit_result
from ec2_backup.status import Status

EPILOG = """\
examples:
  ec2-backup help
  ec2-backup help restore
  ec2-backup help --man restore | man -l -
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``help``."""
    from ec2_backup.cli import COMMANDS  # here: this is one of them

    result = options.Parser(
        prog="ec2-backup help",
        description="List the commands, or tell all about one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("command", metavar="COMMAND", nargs="?", choices=COMMANDS, help="tell about this command")
    result.add_argument("--man", action="store_true", help="print its man page, as the source that man(1) reads")
    return result


def overview() -> Iterator[str]:
    """The lines that tell what commands there are."""
    commands = grammar.commands()
    broad = max(len(command.name) for command in commands)
    yield "usage: ec2-backup [OPTION ...] DIR"
    yield "       ec2-backup COMMAND [OPTION ...] [ARGUMENT ...]"
    yield ""
    yield "commands:"
    for command in commands:
        yield f"  {command.name:{broad}}  {command.summary}"
    yield ""
    yield f"Without a command, {grammar.DEFAULT} is meant. A directory that is named as a command"
    yield "is given as ./NAME."
    yield "All about a command: ec2-backup help COMMAND, or man ec2-backup-COMMAND."


def help_command(argv: Sequence[str]) -> int:
    """The command ``help``."""
    from ec2_backup.cli import COMMANDS  # here: this is one of them

    arguments = parser().parse_args(argv)
    if arguments.man:
        name = "-".join(filter(None, [grammar.PROGRAM, arguments.command]))
        lines = manual.pages(grammar.commands())[name].splitlines()
    elif arguments.command:
        lines = sys.modules[COMMANDS[arguments.command].__module__].parser().format_help().splitlines()
    else:
        lines = list(overview())
    return emit_result(Report("help", None, {}), Status.DONE, {}, lines, "the help")
