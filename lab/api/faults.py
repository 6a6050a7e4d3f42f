# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Faults that a JSON file asks for, which may change while the lab runs (docs/lab.md describes it)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Server errors of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
# All other errors are client errors, with status 400.
SERVER_ERRORS = {
    "InsufficientAddressCapacity": 500,
    "InsufficientCapacity": 500,
    "InsufficientInstanceCapacity": 500,
    "InsufficientHostCapacity": 500,
    "InsufficientReservedInstanceCapacity": 500,
    "InsufficientVolumeCapacity": 500,
    "InternalError": 500,
    "InternalFailure": 500,
    "RequestLimitExceeded": 503,
    "ServiceUnavailable": 503,
    "Unavailable": 503,
}
MESSAGES = {
    "RequestLimitExceeded": "Request limit exceeded.",
    "InsufficientInstanceCapacity": "We currently do not have sufficient capacity in the zone you requested.",
    "InternalError": "An internal error has occurred",
    "UnauthorizedOperation": "You are not authorized to perform this operation.",
}


@dataclass(frozen=True)
class Fault:
    """A fault of an API call.

    :ivar delay: in seconds.
    :ivar after: the call takes effect first.
    :ivar drop: it gets no reply.
    """

    code: str = ""
    status: int = 400
    message: str = ""
    delay: float = 0.0
    after: bool = False
    drop: bool = False

    @property
    def replaces_reply(self) -> bool:
        """Whether the caller does not get the reply of EC2."""
        return bool(self.code) or self.drop


def due(entry: Mapping[str, Any], count: int) -> bool:
    """Return whether an entry of the file applies to a call.

    :param count: the number of the call (from 1) of its action since the entry appeared.
    """
    if entry.get("always"):
        return True
    if "nth" in entry:
        return count == int(entry["nth"])
    return count <= int(entry.get("times", 1))


def fault(entry: Mapping[str, Any]) -> Fault:
    """Return the fault that an entry of the file describes; message and status default to those of EC2."""
    code = str(entry.get("code", ""))
    return Fault(
        code=code,
        status=int(entry.get("status", SERVER_ERRORS.get(code, 400))),
        message=str(entry.get("message", MESSAGES.get(code, f"{code}: a fault was asked for"))),
        delay=float(entry.get("delay", 0)),
        after=bool(entry.get("after")),
        drop=bool(entry.get("drop")),
    )


class Faults:
    """The faults file, which is read anew at each use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._last: dict[str, Any] = {}

    def current(self) -> dict[str, Any]:
        """Return the file's content; while it holds no JSON object (it is half written, say), the last one that did."""
        try:
            value = json.loads(self._path.read_text())
        except FileNotFoundError:
            value = {}
        except ValueError:
            value = self._last
        self._last = value if isinstance(value, dict) else {}
        return self._last

    def for_call(self, action: str) -> list[Fault]:
        """Return the faults of a call that is made now. Counts the call."""
        with self._lock:
            entries = {json.dumps(entry, sort_keys=True): entry for entry in self.current().get("api", [])}
            self._counts = {key: self._counts.get(key, 0) for key in entries}
            found = []
            for key, entry in entries.items():
                if entry.get("action") in (action, "*"):
                    self._counts[key] += 1
                    if due(entry, self._counts[key]):
                        found.append(fault(entry))
            return found

    def sshd_delay(self, default: float | None) -> float | None:
        """Return the seconds from ``running`` until sshd answers, by the file, else ``default``; None for never."""
        content = self.current()
        sshd = content.get("sshd")
        if sshd == "never" or (isinstance(sshd, dict) and sshd.get("never")):
            return None
        return float(content["sshd_boot"]) if "sshd_boot" in content else default
