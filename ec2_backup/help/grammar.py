# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Descriptions of the commands, read from their parsers: the only source of help, man pages and completion.

argparse has no public interface for this. The attributes that are read here (``_actions``, ``_action_groups``) have not
changed since Python 2.7, and shtab and argparse-manpage use them too.
"""

import argparse
import dataclasses
import re
from collections.abc import Iterable, Iterator

PROGRAM = "ec2-backup"
DEFAULT = "backup"  # the command if none is named
ONLY_PRINT = ("help", "completion")  # these do not have the common options
LONGEST = 64  # characters of a summary: with a command's name before it, it fits into 80


@dataclasses.dataclass(frozen=True)
class Option:
    """An option: ``argument`` is None if it takes none, ``choices`` is empty if it takes any."""

    names: tuple[str, ...]
    argument: str | None
    choices: tuple[str, ...]
    repeats: bool
    help: str


@dataclasses.dataclass(frozen=True)
class Operand:
    """An argument that is no option."""

    argument: str
    choices: tuple[str, ...]
    required: bool
    repeats: bool
    help: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Options under a heading; that of the first group is empty."""

    title: str
    description: str
    options: tuple[Option, ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of an epilog: a paragraph if it has no title, else lines that must not be re-wrapped."""

    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, as its parser describes it."""

    name: str
    description: str
    operands: tuple[Operand, ...]
    groups: tuple[Group, ...]
    sections: tuple[Section, ...]

    @property
    def options(self) -> tuple[Option, ...]:
        """The options of all groups."""
        return tuple(option for group in self.groups for option in group.options)

    @property
    def summary(self) -> str:
        """The description in a few words, without a full stop."""
        sentence = re.split(r"\.(?:\s|$)", self.description, maxsplit=1)[0]
        return sentence if len(sentence) <= LONGEST else re.split(r"[,:;] ", sentence, maxsplit=1)[0]


def read(name: str, parser: argparse.ArgumentParser) -> Command:
    """Describe the command whose parser this is."""
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    return Command(
        name=name,
        description=" ".join((parser.description or "").split()),
        operands=tuple(_operand(action, parser.prog) for action in shown if not action.option_strings),
        groups=tuple(_groups(parser, shown)),
        sections=tuple(sections(f"{parser.epilog or ''}\n\n{getattr(parser, 'details', '')}")),
    )


def default(everything: Iterable[Command]) -> Command:
    """Return the command if none is named."""
    return next(command for command in everything if command.name == DEFAULT)


def common_names(everything: Iterable[Command]) -> list[str]:
    """Return the names of the common options, which may precede the command."""
    working = [command for command in everything if command.name not in ONLY_PRINT]
    return [name for name in names(working[0].options) if all(name in names(command.options) for command in working)]


def names(options: Iterable[Option]) -> list[str]:
    """Return all names of options."""
    return [name for option in options for name in option.names]


def sections(epilog: str) -> Iterator[Section]:
    """Split an epilog into paragraphs, and headings (``examples:``) with the indented lines that follow them."""
    title, lines = "", list[str]()

    def end() -> Iterator[Section]:
        if any(line.strip() for line in lines):
            yield Section(title, "\n".join(lines).strip("\n") if title else " ".join(" ".join(lines).split()))
        lines.clear()

    for line in epilog.splitlines():
        heading = re.fullmatch(r"([a-z][\w ]*):", line)
        if heading or (not line and not title) or (line and not line.startswith(" ") and title):
            yield from end()
            title = heading[1] if heading else ""
        if not heading:
            lines.append(line)
    yield from end()


def _groups(parser: argparse.ArgumentParser, shown: Iterable[argparse.Action]) -> Iterator[Group]:
    for group in parser._action_groups:
        options = tuple(
            _option(action, parser.prog) for action in group._group_actions if action in shown and action.option_strings
        )
        if options:
            title = "" if group is parser._optionals else group.title or ""
            yield Group(title, group.description or "", options)


def _option(action: argparse.Action, program: str) -> Option:
    takes = action.nargs != 0
    repeats = isinstance(action, argparse._AppendAction | argparse._CountAction)
    argument = _argument(action) if takes else None
    return Option(tuple(action.option_strings), argument, _choices(action), repeats, _help(action, program))


def _operand(action: argparse.Action, program: str) -> Operand:
    required, repeats = action.nargs not in ("?", "*"), action.nargs in ("+", "*")
    return Operand(_argument(action), _choices(action), required, repeats, _help(action, program))


def _argument(action: argparse.Action) -> str:
    named = action.metavar or action.dest.upper()
    return named if isinstance(named, str) else " ".join(named)


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))


def _help(action: argparse.Action, program: str) -> str:
    return " ".join(((action.help or "") % {**vars(action), "prog": program}).split())
