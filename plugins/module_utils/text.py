# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text from elsewhere, such as a file's name or a program's error message, prepared for a message of one line."""

from __future__ import annotations

import signal


def printable(text: object) -> str:
    """Return ``text`` with a question mark in place of each character that is not printable: safe for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def escaped(name: str) -> str:
    """Return a file's name for a message, as Python escapes it (``\\n``) if any character is not printable."""
    return name if name.isprintable() else repr(name)[1:-1]


def listed(names: list[str], count: int) -> str:
    """Return ``a, b and 3 more``. ``names`` are the first of ``count`` names; there is at least one."""
    if count > len(names):
        return "{} and {} more".format(", ".join(names), count - len(names))
    return names[0] if len(names) == 1 else "{} and {}".format(", ".join(names[:-1]), names[-1])


def describe_status(name: str, returncode: int) -> str:
    """Return in words how a process ended; ``returncode`` as subprocess gives it (-N: killed by signal N)."""
    if returncode < 0:
        try:
            return f"{name} was killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"{name} was killed by signal {-returncode}"
    return f"{name} ended with status {returncode}"


def with_words(text: str, words: str) -> str:
    """Return ``text: words``, or ``text`` alone if there are none."""
    return f"{text}: {words}" if words else text


def last_words(stderr: str) -> str:
    """Return the last line of a program's stderr that carries information, printable, at most 300 characters long."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip().strip("@ ")]
    telling = [line for line in lines if not line.startswith(("Warning: Permanently added", "age: report "))]
    text = (telling or lines or [""])[-1]
    return printable(text)[:300]
