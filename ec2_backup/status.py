# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the exit status says, and how a line on stderr looks: for people, or with ``--json`` for programs."""

import contextlib
import enum
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

JSON_VERSION = 1
"""Of every object that is printed: within it fields may be added, but never change their meaning (docs/json.md)."""


class Status(enum.IntEnum):
    """The exit status. One that was ended by signal N leaves with 128+N."""

    DONE = 0
    FAILED = 1
    """Failed, and nothing is left behind."""
    USAGE = 2
    INCOMPLETE_SOURCE = 3
    """The backup is complete, but some source files changed or could not be read."""
    LEFT_BEHIND = 4
    """Failed, and something may be left behind."""


class UserError(Exception):
    """Something that a person can put right: one line, and the status to leave with."""

    def __init__(self, message: str, status: Status = Status.FAILED) -> None:
        super().__init__(message)
        self.status = status


def stamp(seconds: float | None = None) -> str:
    """Now, or so many seconds since the epoch, in UTC: ``2026-11-22T18:45:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# ---- JSON -----------------------------------------------------------------------------------------------------------

_as_json = False


def wants_json(words: Iterable[str]) -> bool:
    """Whether a command line asks for JSON: also one that is too wrong to be parsed."""
    for word in words:
        if word in ("--json", "--"):
            return word == "--json"
    return False


def speak_json(wanted: bool) -> None:
    """Let every line from now on be an object, or text."""
    global _as_json
    _as_json = wanted


def speaks_json() -> bool:
    """Whether lines are objects."""
    return _as_json


def sound(value: Any) -> Any:
    r"""The value with no half of a surrogate pair in it, which few readers of JSON would take.

    It stands for a byte of a name that is not UTF-8, and becomes ``\xff``. Where that must not lose anything, see
    ``report.name``.
    """
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # of no byte: from a file that somebody else wrote
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: sound(item) for key, item in value.items()}
    return [sound(item) for item in value] if isinstance(value, list | tuple) else value


def json_line(kind: str, **fields: Any) -> str:
    """An object for a line of stderr: what kind it is of, when it was said, its fields. ASCII, without a newline."""
    return json.dumps(sound({"version": JSON_VERSION, "type": kind, "time": stamp(), **fields}))


# ---------------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line on stderr, where everything but the result goes; with ``--json`` an object of type ``message``."""
    put(json_line("message", text=text) if _as_json else f"ec2-backup: {text}")


def put(line: str) -> None:
    """Print a line on stderr as it is.

    A stderr that is closed or full must not keep anybody from cleaning up.
    """
    if sys.stderr is None:  # print would take standard output instead
        return
    with contextlib.suppress(OSError, ValueError):
        # In one piece: a signal handler may want to say something too.
        print(f"{line}\n", end="", file=sys.stderr, flush=True)
