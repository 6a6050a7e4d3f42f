# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a directory differs from its archive: what ``tar --compare --verbose`` says, and what it cannot see.

Runs on the host whose directory is compared: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

from ansible_collections.ec2_backup.ebs.plugins.module_utils.extract import printable, readable, unquote

MAX_DIFFERENCES = 1000

# compare.c of GNU tar 1.26 to 1.35
_DIFFERENCE = re.compile(
    r": (?:(?:Mode|Uid|Gid|Mod time|Size|Contents|Symlink|Device number|File type) differs?"
    r"|Not linked to .*|Not a regular file|Is the archive.*|Archive contains .* where .* expected)$"
)
_GONE = re.compile(r"^(?:tar: )?(?P<name>.*): Warning: Cannot (?:stat|open|readlink|read link): (?P<why>.*)$")


class Comparison:
    """Takes what tar said, line by line; memory grows by one number a member.

    ``differences``: the first MAX_DIFFERENCES, each ``./name: what``; ``count``: how many there are.
    """

    def __init__(self) -> None:
        self.differences: list[str] = []
        self.count = 0
        self.members = 0
        self._names: set[int] = set()

    def _add(self, text: str) -> None:
        self.count += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(text)

    def feed(self, line: str) -> None:
        """Take a line of tar's stdout: a member's name, or a difference of the member named last."""
        if _DIFFERENCE.search(line):
            self._add(readable(line))
        else:
            self.members += 1
            self._names.add(hash(unquote(line).rstrip(b"/")))

    def feed_error(self, line: str) -> bool:
        """Take a line of tar's stderr; return whether it told of a difference."""
        found = _GONE.match(line)
        if found:
            why = "is not there any more" if "No such file" in found.group("why") else found.group("why")
            self._add("{}: {}".format(readable(found.group("name")), why))
        return found is not None

    def look_for_new(self, directory: str) -> None:
        """Add what is in the directory and not in the archive. Sockets are in no archive."""
        for name in _names_below(os.fsencode(directory)):
            if hash(name) not in self._names:
                self._add(f"{printable(os.fsdecode(name))}: is not in the backup")


def _names_below(top: bytes) -> Iterator[bytes]:
    """Yield the name of each entry as our archives have it, ``./a/b``; below a directory that is yielded too."""
    pending = [b"."]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(os.path.join(top, below)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = below + b"/" + entry.name
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISSOCK(mode):
                        continue
                    yield name
                    if stat.S_ISDIR(mode):
                        pending.append(name)
        except OSError:  # what cannot be looked at cannot be compared; tar has told of it
            continue
