# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Exit statuses, and lines on stderr: text for people, or with ``--json`` objects for programs."""

import contextlib
import enum
import json
import sys
from collections.abc import Iterable
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.times import stamp

JSON_VERSION = 1
"""The version of all objects that are printed. Within a version fields may be added, but keep their meaning."""


class Status(enum.IntEnum):
    """The exit status. After signal N it is 128+N."""

    DONE = 0
    FAILED = 1
    """Failed, and nothing is left behind."""
    USAGE = 2
    INCOMPLETE_SOURCE = 3
    """The backup is complete, but some source files changed or could not be read."""
    LEFT_BEHIND = 4
    """Failed, and something may be left behind."""


class UserError(Exception):
    """An error that the user can correct: a message of one line, and the exit status."""

    def __init__(self, message: str, status: Status = Status.FAILED) -> None:
        super().__init__(message)
        self.status = status


# ---- JSON -----------------------------------------------------------------------------------------------------------

_as_json = False


def wants_json(words: Iterable[str]) -> bool:
    """Return whether a command line has ``--json``. Works also for one that cannot be parsed."""
    for word in words:
        if word in ("--json", "--"):
            return word == "--json"
    return False


def speak_json(wanted: bool) -> None:
    """Make every line from now on an object, or text."""
    global _as_json
    _as_json = wanted


def speaks_json() -> bool:
    """Return whether lines are objects."""
    return _as_json


def sound(value: Any) -> Any:
    r"""Replace lone surrogates, which few readers of JSON accept, at any depth.

    In a name that is not UTF-8 a lone surrogate stands for a byte (PEP 383), and becomes ``\xff``. ``report.name``
    keeps the bytes.
    """
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no byte, from a foreign file
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: sound(item) for key, item in value.items()}
    return [sound(item) for item in value] if isinstance(value, list | tuple) else value


def json_line(kind: str, **fields: Any) -> str:
    """Return an object for a line of stderr, with its kind, the time and its fields. ASCII, without a newline."""
    return json.dumps(sound({"version": JSON_VERSION, "type": kind, "time": stamp(), **fields}))


# ---------------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line on stderr; with ``--json`` as an object of type ``message``."""
    put(json_line("message", text=text) if _as_json else f"ec2-backup: {text}")


def put(line: str) -> None:
    """Print a line on stderr without changing it.

    Errors are ignored: a stderr that is closed or full must not prevent a cleanup.
    """
    if sys.stderr is None:  # print would use standard output instead
        return
    with contextlib.suppress(OSError, ValueError):
        # In one write, as a signal handler may print at the same time.
        print(f"{line}\n", end="", file=sys.stderr, flush=True)
