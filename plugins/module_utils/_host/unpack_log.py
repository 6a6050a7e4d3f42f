# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""tar's messages while it reads an archive, and what they mean for the restore.

Runs on the host that is restored to: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import readable, unquote
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import member_names, spellings
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, escaped, listed

MAX_LINES = 1000

# Kind: its noun, one and several. _DENIED_LINES has the message for each. Everything else of such a file is restored.
_DENIED = {
    "owner": ("owner", "owners"),
    "device": ("device node", "device nodes"),
    "fifo": ("FIFO", "FIFOs"),
    "xattr": ("extended attribute", "extended attributes"),
    "acl": ("ACL", "ACLs"),
    "label": ("security label", "security labels"),
    "mode": ("mode", "modes"),
    "time": ("time stamp", "time stamps"),
}
# In a user namespace an id that is not the user's own is "Invalid argument".
_NOT_ALLOWED = r": (?:Operation not permitted|Permission denied|Invalid argument|Operation not supported)$"
_DENIED_LINES = [
    ("owner", re.compile(r": Cannot change ownership to uid \d+, gid \d+" + _NOT_ALLOWED)),
    ("device", re.compile(r": Cannot mknod" + _NOT_ALLOWED)),
    ("fifo", re.compile(r": Cannot mkfifo" + _NOT_ALLOWED)),
    ("label", re.compile(r"^[lf]?setfilecon(?:at)?: Cannot set SELinux context .*" + _NOT_ALLOWED)),
    ("label", re.compile(r"^[lf]?setxattr(?:at)?: Cannot set 'security\.selinux' .*" + _NOT_ALLOWED)),
    ("xattr", re.compile(r"^[lf]?setxattr(?:at)?: Cannot set '.*" + _NOT_ALLOWED)),
    ("acl", re.compile(r"^acl_[a-z_]+: Cannot (?:set|drop) .*ACLs? .*" + _NOT_ALLOWED)),
    ("mode", re.compile(r": Cannot change mode to \S+" + _NOT_ALLOWED)),
    ("time", re.compile(r": Cannot utime" + _NOT_ALLOWED)),
]
_UNSAFE = re.compile(r": Member name contains '\.\.'")
# Messages that only a confined tar (see ``confine``) has: it cannot write there, nor make a hard link to there.
_OUTSIDE = re.compile(r": (?:Read-only file system|Invalid cross-device link)$")
# tar reports its first try, and not why it could not remove what was there, such as that it is outside of the target.
_IN_THE_WAY = " (what is there cannot be replaced: a directory with files in it, or its path leads out of the target)"
_LOST_LINK = re.compile(r"^(?P<name>.*): Cannot hard link to '(?P<to>.*)': No such file or directory$")
_STRIPPED = re.compile(r"^Removing leading `.*' from (?P<what>member names|hard link targets)$")
_MISSING = re.compile(r"^(?P<name>.*): Not found in archive$")
_DAMAGE = re.compile(
    r"^This does not look like a tar archive$|^Skipping to next header$|^Unexpected EOF in archive"
    r"|^Unaligned block |^Archive is compressed|^Archive (?:contains|value|octal|base-256|signed)"
    r"|^Blanks in header where numeric|^[Mm]alformed (?:extended|pax)|^Extended header|xtended header length"
    r"|^(?:-: )?(?:Cannot read|Read error)|sparse archive member$"
    r"|^Unexpected long name header$|^Visible long ?name error"
)
_HARMLESS = re.compile(
    r"^Exiting with failure status due to previous errors$|: time stamp .* in the future$"
    r"|: implausibly old time stamp |^Ignoring unknown extended header keyword |^Record size = "
    r"|^Pattern matching characters used in file names$|^Use --wildcards to enable "
)
_NOTICE = re.compile(r"^(?:XATTR|POSIX ACL|SELinux) support is not (?:available|requested)|^A lone zero block at ")


class ExtractLog:
    """tar's messages while it read an archive, sorted, in bounded memory. It has to run with ``clean_environment``.

    The lists hold the first lines only.

    :ivar denied: by kind, how many attributes could not be restored for this user or on this filesystem.
    :ivar unsafe: members that would have been written outside of the target, which was refused.
    :ivar damage: the archive is damaged.
    :ivar notices: information only.
    :ivar other: fatal, or unknown.
    """

    def __init__(self, members: Iterable[str] = (), confined: bool = False, limit: int = MAX_LINES) -> None:
        self.members, self.confined, self.limit = member_names(members), confined, limit
        self.denied: dict[str, int] = {}
        self.denied_lines: list[str] = []
        self.unsupported = False  # whether it was the filesystem that could not, at least once
        self.unsafe: list[str] = []
        self.unsafe_count = 0
        self.damage: list[str] = []
        self.notices: list[str] = []
        self.other: list[str] = []
        self._links_stripped = False
        self._not_found: set[bytes] = set()

    def feed(self, line: str) -> None:
        """Take one line of stderr, without its newline."""
        text = line[5:] if line.startswith("tar: ") else line
        missing, stripped, link = _MISSING.match(text), _STRIPPED.match(text), _LOST_LINK.match(text)
        if missing:
            if len(self._not_found) < 3 * len(self.members):
                self._not_found.add(unquote(missing.group("name")))
        elif stripped:
            self._links_stripped = self._links_stripped or stripped.group("what") == "hard link targets"
            _keep(self.notices, text, 20)
        elif _UNSAFE.search(text) or (self.confined and _OUTSIDE.search(text)) or (link and self._links_stripped):
            self.unsafe_count += 1
            _keep(self.unsafe, text, 20)
        elif link and self.members:
            name, to = link.group("name"), link.group("to")
            _keep(self.other, f"{name} is a hard link to {to} in this archive: ask for {to} as well", 20)
        elif _DAMAGE.search(text):
            _keep(self.damage, text, 20)
        elif _NOTICE.search(text):
            _keep(self.notices, text, 20)
        elif not _HARMLESS.search(text):
            self._feed_denied(text)

    def _feed_denied(self, text: str) -> None:
        for kind, pattern in _DENIED_LINES:
            if pattern.search(text):
                self.denied[kind] = self.denied.get(kind, 0) + 1
                self.unsupported = self.unsupported or text.endswith(": Operation not supported")
                _keep(self.denied_lines, text, self.limit)
                return
        _keep(self.other, text, 20)

    @property
    def missing(self) -> list[str]:
        """The members that were asked for and are not in the archive in any spelling."""
        return [
            name
            for name in self.members
            if all(os.fsencode(spelling) in self._not_found for spelling in spellings(name))
        ]

    @property
    def misses_spelling(self) -> bool:
        """Whether tar did not find some spelling of a member, which makes it end with status 2."""
        return bool(self._not_found)

    @property
    def denied_count(self) -> int:
        """How many attributes could not be restored."""
        return sum(self.denied.values())

    def denied_text(self, uid: int) -> str | None:
        """Return in one line which attributes tar could not restore; None if it restored all.

        :param uid: the user that tar ran as.
        """
        counts = [(self.denied.get(kind, 0), nouns) for kind, nouns in _DENIED.items()]
        counted = [f"{count} {nouns[count != 1]}" for count, nouns in counts if count]
        if not counted:
            return None
        what = counted[0] if len(counted) == 1 else "{} and {}".format(", ".join(counted[:-1]), counted[-1])
        if self.unsupported:
            hint = "the target's filesystem does not have them all"
        else:
            hint = "run as root" if uid else "this host does not let root set them"
        return f"restored as uid {uid}: {what} could not be restored ({hint})"


def _keep(lines: list[str], text: str, limit: int) -> None:
    if len(lines) < limit:
        lines.append(text)


def extract_failure(returncode: int, log: ExtractLog) -> str | None:
    """Return in one line why the restore is not complete, or None if it is (attributes may have been denied).

    tar ends with 2 for a chown that a user may not do, and for each spelling of a member that the archive does not
    have: neither is a failure. For --list too. If an archive ends between two members, or is nothing but zeros, tar
    ends with 0 and prints nothing: that the archive is complete has to be known from its length and hash.
    """
    if returncode < 0:
        return describe_status("tar", returncode)
    if log.damage:
        return f"the archive is damaged: {log.damage[0]}"
    if returncode == 0:
        return None
    if log.unsafe:
        return (
            f"the archive tried to leave the target {log.unsafe_count} time{'' if log.unsafe_count == 1 else 's'}, "
            f"which was refused; do not trust it: {readable(log.unsafe[0])}"
        )
    causes = [line for line in log.other if "not recoverable" not in line] or log.other
    if causes:
        hint = _IN_THE_WAY if causes[0].endswith(": File exists") else ""
        return "{}: {}{}".format(describe_status("tar", returncode), readable(causes[0]), hint)
    if log.missing:
        names = [escaped(name) for name in log.missing]
        return f"not in the backup: {listed(names[:3], len(names))} (the names in it can be listed)"
    if returncode == 2 and (log.denied or log.misses_spelling):
        return None
    return "{}: it gave no reason".format(describe_status("tar", returncode))
