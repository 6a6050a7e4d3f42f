# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the exit status says, and how errors look."""

import contextlib
import enum
import sys


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


def say(text: str) -> None:
    """Print a line on stderr, where everything but the result goes.

    A stderr that is closed or full must not keep anybody from cleaning up.
    """
    if sys.stderr is None:  # print would take standard output instead
        return
    with contextlib.suppress(OSError, ValueError):
        # In one piece: a signal handler may want to say something too.
        print(f"ec2-backup: {text}\n", end="", file=sys.stderr, flush=True)
