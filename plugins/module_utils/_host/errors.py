# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What fails on a host. The text of each error is one line for the person who asked."""

from __future__ import annotations


class SourceError(Exception):
    """The directory cannot be saved; the text is one line for the person who asked."""


class TargetError(Exception):
    """Nothing can be restored to there; the text is one line for the person who asked."""


class StreamError(Exception):
    """The stream failed; the text is one line that names the first cause. ``stderr``: each process's last words.

    ``found_bad``: it is what the volume holds that is at fault, not the way to it.
    """

    def __init__(self, message: str, stderr: dict[str, str], found_bad: bool = False) -> None:
        super().__init__(message)
        self.stderr, self.found_bad = stderr, found_bad
