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
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup import __version__, config, display
from ec2_backup.status import Status, UserError

HEX = "([0-9a-f]{8}|[0-9a-f]{17})"  # 8 digits in old accounts, 17 in all others


class Help(argparse.Action):
    """``-h``: what fits a screen, ``--help``: all of it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        shown = parser.format_brief() if isinstance(parser, Parser) and option == "-h" else parser.format_help()
        try:  # argparse would hold its tongue about a disk that is full
            print(shown, end="", flush=True)
        except OSError as error:
            raise UserError(f"the help could not be written to standard output: {error.strerror}") from error
        parser.exit()


class Formatter(argparse.RawDescriptionHelpFormatter):
    """An epilog keeps its lines, and an option's help has most of the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose groups stand in the same order for each command.

    Its own arguments and options come first, then the groups that are added, then what all commands have.

    :param details: more of the kind of the epilog, which only ``--help`` and the manual pages show.
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
        """All that there is to say."""
        return super().format_help() + (f"\n{self.details}" if self.details else "")

    def format_brief(self) -> str:
        """What fits a screen: of the options that several commands have only the names."""
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
        """Parse; but an option that does not exist is told first, for it may have led to whatever else is wrong."""
        words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        wrong = correct(words, self._option_string_actions)
        if wrong:
            name, meant = wrong
            self.error(f"there is no option {name}" + (f": did you mean {meant}?" if meant else ""))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (try --help)", Status.USAGE)


def wrapped(names: Sequence[str], width: int) -> list[str]:
    """Names in lines, none of them broken."""
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}  {name}" if lines[-1] else name
        lines[-1:] = [longer] if len(longer) <= width else [lines[-1], name]
    return lines


def correct(words: Sequence[str], known: Collection[str]) -> tuple[str, str | None] | None:
    """The first word that looks like an option and is none, with the one that was probably meant.

    :param words: the command line; what follows ``--`` is not looked at.
    :param known: all options, such as ``-v`` and ``--exclude``.
    """
    long = [option.removeprefix("--") for option in known if option.startswith("--")]
    for word in words[: words.index("--") if "--" in words else None]:
        # What begins with a dash and is no option, as argparse sees it.
        if not word.startswith("-") or word == "-" or " " in word or re.fullmatch(r"-\d+|-\d*\.\d+", word):
            continue
        name = word.partition("=")[0]
        if name.removeprefix("-") in long:  # -region would be the filter `egion`
            return name, "-" + name
        if name not in known and (name.startswith("--") or name[:2] not in known):
            meant = config.nearest(name[2:], long) if name.startswith("--") else None
            return name, meant and f"--{meant}"
    return None


def find_command(words: Sequence[str], commands: Collection[str]) -> tuple[str | None, list[str]]:
    """The command that is named, be it behind options that all commands have, and the other words.

    :returns: None for the command if none is named.
    :raises UserError: what stands there is neither a command nor a directory, but almost a command.
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
    meant = None if "/" in word or os.path.lexists(word) else config.nearest(word, commands)
    if meant:
        raise UserError(
            f"{word} is neither a command nor a directory that exists: did you mean `ec2-backup {meant}`? (try --help)",
            Status.USAGE,
        )
    return None, list(words)


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


def instance_type(text: str) -> str:
    """Check an instance type's form."""
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an instance type: those look like t3.small")
    return text


def tag(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        config.check_tag(key, value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return key, value


def add_undoing(result: argparse.ArgumentParser) -> None:
    """Add the options of the commands that read what was filtered: how that is undone."""
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
    """The role variables that those options ask for."""
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


def watch(arguments: argparse.Namespace) -> display.Display:
    """What shows how far the command is, as it was asked for; a context."""
    verbose = bool(arguments.verbose or os.environ.get("EC2_BACKUP_VERBOSE"))
    return display.Display(display.choose(arguments.progress, verbose, sys.stderr, os.environ, arguments.json))


def check_environment() -> None:
    """Refuse options in the environment that would be refused later, when Ansible has started."""
    try:
        parse_aws_flags(os.environ.get("EC2_BACKUP_FLAGS_AWS"))
        parse_ssh_flags(os.environ.get("EC2_BACKUP_FLAGS_SSH"))
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error


def settings(arguments: argparse.Namespace, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The role variables to run with: of the command line, and of the configuration file.

    :param asked: what the command's own options and arguments ask for.
    :raises UserError: the two contradict each other, or the file is wrong.
    """
    common = given(
        profile=arguments.profile,
        region=arguments.region,
        instance_type=getattr(arguments, "instance_type", None),
        name=getattr(arguments, "name", None),
        tags=dict(getattr(arguments, "tags", None) or ()) or None,
    )
    assigned = dict(arguments.variables)
    config.check_names(assigned)
    file = config.load(arguments.config, os.environ)
    try:
        settled = config.settle({**common, **asked}, assigned, os.environ, file)
    except ValueError as error:
        raise UserError(str(error), Status.USAGE) from error
    try:
        json.dumps(settled, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        bad = error.object[error.start : error.end].encode(errors="surrogateescape")
        raise UserError(
            f"a name that is not UTF-8 cannot be given to Ansible (it has the byte {bad[0]:#04x}); what lies below a "
            "directory may have any name: name one above it",
            Status.USAGE,
        ) from error
    return settled


def given(**asked: Any) -> dict[str, Any]:
    """Role variables without those that were not asked for, which are left to the roles' defaults."""
    return {f"ec2_backup_{name}": value for name, value in asked.items() if value is not None}


def new_run_id() -> str:
    """An ID that sorts by time and that nobody else has: ``20261122t184500z-1f2e3d4c``."""
    return time.strftime("%Y%m%dt%H%M%Sz-", time.gmtime()) + secrets.token_hex(4)
