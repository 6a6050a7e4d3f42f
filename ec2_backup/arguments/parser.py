# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parser of a command: short and long help, and errors of one line."""

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from ec2_backup import __version__
from ec2_backup.arguments.suggest import nearest
from ec2_backup.status import Status, UserError


class Help(argparse.Action):
    """Prints the help: what fits on a screen for ``-h``, all of it for ``--help``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        shown = parser.format_brief() if isinstance(parser, Parser) and option == "-h" else parser.format_help()
        try:  # argparse ignores write errors
            print(shown, end="", flush=True)
        except OSError as error:
            raise UserError(f"the help could not be written to standard output: {error.strerror}") from error
        parser.exit()


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of an epilog, and gives most of the width to the help of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help has the same order for each command.

    The command's own arguments and options come first, then the groups that are added, then what all commands have.

    :param details: text after the epilog that only ``--help`` and the man pages show.
    """

    def __init__(self, details: str = "", formatter_class: Any = Formatter, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, formatter_class=formatter_class, **settings)
        self.details = details
        self._positionals.title = None
        self.instance: Any = None
        self.common = super().add_argument_group("common options")
        self.common.add_argument("-h", "--help", action=Help, nargs=0, help="show the options; --help tells more")
        version = f"ec2-backup {__version__}"
        self.common.add_argument("--version", action="version", version=version, help="show the version")

    def add_argument_group(self, *words: Any, **settings: Any) -> Any:
        """Add a group of options before those that all commands have."""
        group = super().add_argument_group(*words, **settings)
        self._action_groups.sort(key=lambda each: each is getattr(self, "common", None))
        return group

    def format_help(self) -> str:
        """Return the long help."""
        return super().format_help() + (f"\n{self.details}" if self.details else "")

    def format_brief(self) -> str:
        """Return the short help: of the options that several commands share only the names."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        arguments, own, *added = self._action_groups
        shared = [group for group in added if group in (self.instance, self.common)]
        sections = [(group.title, group._group_actions) for group in added if group not in shared]
        for title, actions in [(None, arguments._group_actions + own._group_actions), *sections]:
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        names = [formatter._format_action_invocation(action) for group in shared for action in group._group_actions]
        formatter.start_section("common options (--help describes them)")
        formatter.add_text("\n".join(wrapped(names, 76)))
        formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line.

        An option that does not exist is reported first, as it often causes the other errors.
        """
        words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        wrong = correct(words, self._option_string_actions)
        if wrong:
            name, meant = wrong
            self.error(f"there is no option {name}" + (f": did you mean {meant}?" if meant else ""))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (try --help)", Status.USAGE)


def wrapped(names: Sequence[str], width: int) -> list[str]:
    """Join names to lines of at most ``width`` characters, without breaking a name."""
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}  {name}" if lines[-1] else name
        lines[-1:] = [longer] if len(longer) <= width else [lines[-1], name]
    return lines


def correct(words: Sequence[str], known: Collection[str]) -> tuple[str, str | None] | None:
    """Find the first word that looks like an option but is not one.

    :param words: the command line; what follows ``--`` is ignored.
    :param known: all options, such as ``-v`` and ``--exclude``.
    :returns: the word, and the option that was probably meant, None if no option is similar. None if all are options.
    """
    long = [option.removeprefix("--") for option in known if option.startswith("--")]
    for word in words[: words.index("--") if "--" in words else None]:
        # argparse does not take these for options.
        if not word.startswith("-") or word == "-" or " " in word or re.fullmatch(r"-\d+|-\d*\.\d+", word):
            continue
        name = word.partition("=")[0]
        if name.removeprefix("-") in long:  # otherwise argparse would read -region as -r egion
            return name, "-" + name
        if name not in known and (name.startswith("--") or name[:2] not in known):
            meant = nearest(name[2:], long) if name.startswith("--") else None
            return name, meant and f"--{meant}"
    return None
