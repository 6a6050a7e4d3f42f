# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The errors of the code that runs on hosts. The text of each is one line for the user."""

from __future__ import annotations


class SourceError(Exception):
    """The directory cannot be saved."""


class TargetError(Exception):
    """Nothing can be restored to that directory."""


class StreamError(Exception):
    """A stream, or another exchange with the instance, failed; the text names the first cause.

    :ivar stderr: the last lines of each process's stderr, by its name.
    :ivar found_bad: the cause is the data on the volume, not the way to it.
    """

    def __init__(self, message: str, stderr: dict[str, str], found_bad: bool = False) -> None:
        super().__init__(message)
        self.stderr, self.found_bad = stderr, found_bad
