# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""GNU tar: the version that this host has, the environment that it runs in, and how it writes names.

Runs on the host whose directory is saved or restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError

RECORD_BYTES = 1024 * 1024  # tar pads the archive to a multiple of this; also dd's block size
TAR_BLOCK = 512
MINIMUM_TAR = (1, 28)  # the first with --sort; all other options are older


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for tar, in which its messages are English and only our options apply.

    In the C locale GNU tar treats names as bytes, and quotes them in messages (C escapes), so a message is always one
    line of ASCII.
    """
    kept = {
        key: value for key, value in environment.items() if key not in ("TAR_OPTIONS", "POSIXLY_CORRECT", "LANGUAGE")
    }
    kept["LC_ALL"] = "C"
    return kept


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor) from ``tar --version``, or None if that is not GNU tar."""
    found = re.match(r"tar \(GNU tar\) (\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


def tar_version(host: str = "the host whose directory is saved") -> str:
    """Return GNU tar's version.

    :param host: what an error message calls this host.
    :raises SourceError: there is no GNU tar, or only one older than MINIMUM_TAR.
    """
    needed = "GNU tar {}.{} or newer is needed on {}".format(*MINIMUM_TAR, host)
    try:
        text = subprocess.run(
            ["tar", "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(os.environ),
            check=False,
        ).stdout.decode("utf-8", "replace")
    except OSError:
        raise SourceError(f"{needed}: there is no tar; install the package tar") from None
    version = parse_version(text)
    if version is None or version < MINIMUM_TAR:
        raise SourceError("{}: found {}".format(needed, text.splitlines()[0] if text else "another tar"))
    return "{}.{}".format(*version)


_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_HIGH_BYTES = re.compile(r"\\\\|\\:|(?:\\[23][0-7]{2})+")


def unquote(name: bytes | str) -> bytes:
    """Return the bytes of a name that tar has printed with ``--quoting-style=escape``."""
    quoted = os.fsencode(name)

    def restore(found: re.Match[bytes]) -> bytes:
        text = found.group(1)
        return bytes([int(text, 8) & 255]) if len(text) == 3 else _LETTERS.get(text, text)

    return _ESCAPE.sub(restore, quoted) if b"\\" in quoted else quoted


def readable(line: str) -> str:
    r"""Return a name or message of tar's with letters in place of the bytes that it prints (``\303\244``).

    Characters that are not printable stay escaped, so that no name can control a terminal.
    """

    def show(found: re.Match[str]) -> str:
        text = found.group()
        if text == "\\:":  # tar escapes a colon in a name if a colon follows the name
            return ":"
        if text == "\\\\":
            return text
        try:
            letters = bytes(int(octal, 8) for octal in text[1:].split("\\")).decode()
        except UnicodeDecodeError:
            return text
        return letters if letters.isprintable() else text

    return _HIGH_BYTES.sub(show, line)
