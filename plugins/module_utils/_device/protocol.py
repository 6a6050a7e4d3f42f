# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the script on the instance reports: lines that begin with PREFIX, on its stdout.

``ready DEVICE SIZE``          the device was found and is fit; the stream may begin (SIZE in bytes, 0 if unknown)
``done BYTES DEVICE``          BYTES were written and flushed to stable storage, or were read
``sum HEX MEMBERS``            the SHA-256 of what was read, and how many members the archive has (- if not counted)
``refused CODE TEXT``          nothing was written; CODE is one of REFUSALS
``failed CODE BYTES TEXT``     the copying failed after BYTES; CODE is one of FAILURES
"""

from __future__ import annotations

PREFIX = "ec2-backup:"
REFUSALS = ("root", "missing", "not-block", "size", "read-only", "in-use", "signature", "unknown", "tool")
FAILURES = ("full", "dd", "filter", "leftover", "vanished", "sync", "archive")


class Reports:
    """What the script on the instance has reported so far. Other lines (a login's greetings) are ignored."""

    def __init__(self) -> None:
        self.device: str | None = None
        self.ready = False
        self.stored_bytes: int | None = None
        self.code: str | None = None  # of a refusal or failure
        self.text = ""
        self.written = 0
        self.sha256: str | None = None
        self.members: int | None = None

    def feed(self, line: str) -> bool:
        """Take one line of the session's stdout; return whether it is one of the script's reports."""
        if not line.startswith(PREFIX):
            return False
        words = line[len(PREFIX) :].split(" ")
        if words[0] == "ready" and len(words) == 3:
            self.ready, self.device = True, words[1]
        elif words[0] == "done" and len(words) == 3 and words[1].isdigit():
            self.stored_bytes, self.device = int(words[1]), words[2]
        elif words[0] == "sum" and len(words) == 3:
            self.sha256, self.members = words[1], int(words[2]) if words[2].isdigit() else None
        elif words[0] == "refused" and len(words) > 2:
            self.code, self.text = words[1], " ".join(words[2:])
        elif words[0] == "failed" and len(words) > 3:
            self.code, self.text = words[1], " ".join(words[3:])
            self.written = int(words[2]) if words[2].isdigit() else 0
        return True


def trouble(reports: Reports, volume_id: str, timeout: int, doing: str = "writing to") -> str | None:
    """Return in one line for the user what the script refused or failed at; None if it did neither.

    :param timeout: the seconds that it waited for the device.
    :param doing: what it was doing, in words.
    """
    if reports.code is None:
        return None
    if reports.code == "missing":
        return f"volume {volume_id} did not appear on the instance within {timeout} s; {reports.text}"
    if reports.code == "signature":
        return f"volume {volume_id} holds {reports.text}: refused; use --force (ec2_backup_force) to overwrite it"
    if reports.code == "full":
        return f"volume {volume_id} is full after {reports.written} bytes: it is too small for this archive"
    if reports.code == "root":
        return f"the login on the instance cannot become root: {reports.text}"
    if reports.code in REFUSALS:
        return f"volume {volume_id}: {reports.text}: refused"
    if reports.code == "archive":
        return f"volume {volume_id}: {reports.text}"
    return f"{doing} volume {volume_id} failed after {reports.written} bytes: {reports.text}"
