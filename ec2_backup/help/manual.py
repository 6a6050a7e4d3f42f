# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Man pages, made from the commands' parsers and from texts here that no parser has.

They are in mdoc(7), which both mandoc and groff read. They are not made by argparse-manpage: it has neither these
sections nor the parts of the epilogs, and a page for each command would take as much code around it.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ec2_backup import __version__
from ec2_backup.help.grammar import DEFAULT, ONLY_PRINT, PROGRAM, Command, Group, Operand, Option, Section, default

DATE = "November 23, 2026"  # of the last change of the texts here; not of the build, which has to be reproducible

ABOUT = """\
A throwaway instance is launched for each run, tar is piped over SSH into the raw device of a volume, the volume is
detached, and the instance is terminated. Only the volume stays. It begins with the archive, at byte 0, and ends with
a manifest that describes the archive.

Standard output has only the result. Everything else goes to standard error: on a terminal one line with the current
progress, elsewhere nothing unless something is wrong.
"""

ENVIRONMENT = {
    "EC2_BACKUP_FLAGS_AWS": "Options as aws ec2 run-instances takes them, such as --instance-type t3.nano.",
    "EC2_BACKUP_FLAGS_SSH": "Options for every ssh, such as -i ~/key.",
    "EC2_BACKUP_VERBOSE": "If not empty, as --verbose.",
    "AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL": "These and all others of AWS, as every AWS tool reads them.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME": "If set, in place of ~/.config and ~/.local/state.",
}

FILES = {
    "~/.config/ec2-backup/config.yml": (
        "Role variables, such as ec2_backup_instance_type: t3.nano. An option has precedence over the environment, the "
        "environment over this file, and this file over the defaults of the roles."
    ),
    "~/.local/state/ec2-backup/log": "What Ansible printed in runs that failed. An error names the log of its run.",
}

WRONG_USAGE = {"2": "Wrong usage; nothing was started."}
ENDED = {"128+N": "Signal N ended it, and it has cleaned up."}
LEFT_OR_ENDED = {"4": "It failed, and something may be left behind in the account; the message lists it.", **ENDED}
PRINTED = {"0": "It is printed.", "1": "It could not be printed.", "2": "Wrong usage."}

STATUSES: Mapping[str, Mapping[str, str]] = {
    "backup": {
        "0": "The backup is complete.",
        "1": "It failed, and nothing of it is left behind.",
        **WRONG_USAGE,
        "3": "The backup is complete, but some source files changed or could not be read.",
        **LEFT_OR_ENDED,
    },
    "cleanup": {
        "0": "Nothing is left of what it looked for.",
        "1": "It could not look or act.",
        **WRONG_USAGE,
        "4": "Something that it tried to remove is left, and is named.",
        **ENDED,
    },
    "list": {
        "0": "The backups were listed; there may be none.",
        "1": "EC2 could not be asked.",
        **WRONG_USAGE,
        **ENDED,
    },
    "restore": {
        "0": "Everything was restored. A warning says what this user may not set, such as owners.",
        "1": "The restore failed, or the checksum did not match; the message says which.",
        **WRONG_USAGE,
        **LEFT_OR_ENDED,
    },
    "verify": {
        "0": "All are good.",
        "1": "At least one of them is not. All were tried.",
        **WRONG_USAGE,
        **LEFT_OR_ENDED,
    },
    **dict.fromkeys(ONLY_PRINT, PRINTED),
}

HAVE_SECTIONS = {"environment", "files", "exit status", "examples"}  # of a page; others are part of the description


def pages(everything: Sequence[Command]) -> dict[str, str]:
    """Return the source of all pages, by their names: ``ec2-backup``, and one for each command."""
    return {
        PROGRAM: _page(default(everything), everything, main=True),
        **{_page_name(command): _page(command, everything) for command in everything},
    }


def _page(command: Command, everything: Sequence[Command], main: bool = False) -> str:
    name = PROGRAM if main else _page_name(command)
    lines = [
        f'.\\" Made from the parsers of {PROGRAM} {__version__}: change those.',
        f".Dd {DATE}",
        f".Dt {name.upper()} 1",
        f".Os {PROGRAM} {__version__}",
        ".Sh NAME",
        f".Nm {name}",
        f".Nd {_escaped(command.summary[0].lower() + command.summary[1:])}",
        ".Sh SYNOPSIS",
        *_synopsis(command, main),
        *([f".Nm {PROGRAM}", ".Ar COMMAND", ".Op Ar OPTION ...", ".Op Ar ARGUMENT ..."] if main else []),
        ".Sh DESCRIPTION",
        *_text(command.description),
        *(line for paragraph in (ABOUT.split("\n\n") if main else ()) for line in (".Pp", *_text(paragraph))),
        *_remarks(command.sections),
        *_tagged((_argument(operand), operand.help) for operand in command.operands),
        *(_commands(everything) if main else []),
        *_options(command.groups),
    ]
    if command.name not in ONLY_PRINT:
        lines += [".Sh ENVIRONMENT", *_tagged((f"Ev {_word(name)}", text) for name, text in ENVIRONMENT.items())]
        lines += [".Sh FILES", *_tagged((f"Pa {_word(name)}", text) for name, text in FILES.items())]
    lines += [".Sh EXIT STATUS", *_tagged(STATUSES[command.name].items())]
    for section in command.sections:
        if section.title == "examples":
            lines += [".Sh EXAMPLES", *_literal(section.text)]
    others = {PROGRAM, *map(_page_name, everything), "ssh", "tar"} - {name}
    references = [f".Xr {other} 1 ," for other in sorted(others)]
    return "\n".join([*lines, ".Sh SEE ALSO", *references]).removesuffix(" ,") + "\n"


def _page_name(command: Command) -> str:
    return f"{PROGRAM}-{command.name}"


# ---- sections -------------------------------------------------------------------------------------------------------


def _synopsis(command: Command, main: bool) -> Iterator[str]:
    yield f".Nm {PROGRAM}"
    if not main:
        yield f".Cm {command.name}"
    for option in command.options:
        yield f".Op {_flags(option.names[:1], option)}" + (" ..." if option.repeats else "")
    for operand in command.operands:
        yield ("." if operand.required else ".Op ") + _argument(operand)


def _remarks(sections: Iterable[Section]) -> Iterator[str]:
    for section in sections:
        if not section.title:
            yield from (".Pp", *_text(section.text))
        elif section.title not in HAVE_SECTIONS:
            yield from (".Pp", *_text(f"{section.title.capitalize()}:"), *_literal(section.text))


def _commands(everything: Iterable[Command]) -> Iterator[str]:
    yield ".Sh COMMANDS"
    yield from _text(f"Without a command, {DEFAULT} is meant. A directory named as a command is given as ./NAME.")
    yield from _tagged((f"Xr {_page_name(command)} 1", command.summary + ".") for command in everything)


def _options(groups: Iterable[Group]) -> Iterator[str]:
    yield ".Sh OPTIONS"
    for group in groups:
        if group.title:
            yield f".Ss {_escaped(group.title[0].upper() + group.title[1:])}"
        yield from _text(group.description)
        yield from _tagged((_flags(option.names, option), option.help) for option in group.options)


# ---- mdoc -----------------------------------------------------------------------------------------------------------


def _flags(names: Iterable[str], option: Option) -> str:
    """Return an option's names, and its argument, as the arguments of a macro."""
    value = "" if option.argument is None else f" {_argument(option)}"
    return " , ".join(f"Fl {_escaped(name[1:])}{value}" for name in names)


def _argument(argument: Option | Operand) -> str:
    if argument.choices and isinstance(argument, Option):
        return "Cm " + " | ".join(map(_word, argument.choices))
    many = isinstance(argument, Operand) and argument.repeats
    return f"Ar {_word(argument.argument or '')}" + (" ..." if many else "")


def _tagged(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a list of terms with their texts. The terms are arguments of a macro."""
    lines = [line for term, text in items for line in (f".It {term}", *_text(text))]
    if lines:
        yield from (".Bl -tag -width Ds", *lines, ".El")


def _text(text: str) -> Iterator[str]:
    """Yield a paragraph, each sentence on a line of its own, as mdoc requires."""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", text):
        for line in textwrap.wrap(sentence, 72, break_long_words=False, break_on_hyphens=False):
            # \\% keeps the names of options from being hyphenated.
            yield re.sub(r"(?<!\S)(?=\\-)", r"\\%", _escaped(line))


def _literal(text: str) -> Iterator[str]:
    yield ".Bd -literal"
    yield from map(_escaped, textwrap.dedent(text).splitlines())
    yield ".Ed"


def _word(text: str) -> str:
    r"""Return an argument of a macro.

    The ``\&``, which prints nothing, keeps it from being read as a macro or punctuation.
    """
    return f'"\\&{_escaped(text)}"' if " " in text else f"\\&{_escaped(text)}"


SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def _escaped(text: str) -> str:
    """Return the text as ASCII, without characters that have a meaning in mdoc."""
    escaped = "".join(SPECIAL.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
