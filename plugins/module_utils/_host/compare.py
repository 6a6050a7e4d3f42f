# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a directory differs from its archive, by ``tar --compare --verbose --block-number`` and a search for new files.

Runs on the host whose directory is compared: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re
import stat
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import readable, unquote
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import ARCHIVE_END
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import escaped

MAX_DIFFERENCES = 1000

# tar escapes a colon (\:) in the name at the beginning of a message, but not in the name of a member that it lists.
# Only --block-number distinguishes the two: it precedes the name of a member, and not a difference.
_MEMBER = re.compile(r"block \d+: (?P<name>.*)")
# compare.c and misc.c of GNU tar: "Warning" only stands there if there is no such file.
_GONE = re.compile(
    r"(?:tar: )?(?P<name>(?:[^\\:]|\\.)*): (?:Warning: )?Cannot (?P<call>stat|open|readlink|read link): (?P<why>.*)"
)


class Comparison:
    """The differences, from tar's messages. Takes one number of memory for each member.

    :ivar differences: the first MAX_DIFFERENCES, each ``./name: what``.
    :ivar count: how many there are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a thread reads tar's stdout, another its stderr
        self.differences: list[str] = []
        self.count = 0
        self.members = 0
        self._names: set[int] = set()

    def _add(self, text: str) -> None:
        with self._lock:
            self.count += 1
            if len(self.differences) < MAX_DIFFERENCES:
                self.differences.append(text)

    def feed(self, line: str) -> None:
        """Take a line of tar's stdout: a member's name, or a difference of the member before."""
        member = _MEMBER.fullmatch(line)
        if member is None:
            self._add(readable(line))
        elif not ARCHIVE_END.fullmatch(line):
            self.members += 1
            self._names.add(hash(unquote(member.group("name")).rstrip(b"/")))

    def feed_error(self, line: str) -> bool:
        """Take a line of tar's stderr; return whether it was about a difference."""
        found = _GONE.fullmatch(line)
        if found:
            why = found.group("why")
            if why == "No such file or directory":
                why = "is not there any more"
            elif found.group("call").startswith("read") and why == "Invalid argument":
                why = "is not a symbolic link any more"
            self._add("{}: {}".format(readable(found.group("name")), why))
        return found is not None

    def look_for_new(self, directory: str) -> None:
        """Add each file in the directory that is not in the archive, except for sockets, which tar does not archive."""
        for name in _names_below(os.fsencode(directory)):
            if hash(name) not in self._names:
                self._add(f"{escaped(os.fsdecode(name))}: is not in the backup")


def _names_below(top: bytes) -> Iterator[bytes]:
    """Yield the name of each entry below ``top`` as our archives have it: ``./a/b``."""
    pending = [b"."]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(os.path.join(top, below)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = below + b"/" + entry.name
                    try:
                        mode = entry.stat(follow_symlinks=False).st_mode
                    except OSError:  # it was removed meanwhile
                        continue
                    if stat.S_ISSOCK(mode):
                        continue
                    yield name
                    if stat.S_ISDIR(mode):
                        pending.append(name)
        except OSError:  # tar has reported that it cannot be read
            continue
