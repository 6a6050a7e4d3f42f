# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one form of a time in tags, manifests and messages: UTC, as in ``2026-11-22T18:45:00Z``.

Standard library only.
"""

from __future__ import annotations

import calendar
import time

FORM = "%Y-%m-%dT%H:%M:%SZ"


def stamp(seconds: float | None = None) -> str:
    """Return a time in that form.

    :param seconds: since the epoch; now if it is left out.
    """
    return time.strftime(FORM, time.gmtime(seconds))


def seconds(text: str) -> int:
    """Return the seconds since the epoch of a time in that form.

    :raises ValueError: the text is no such time.
    """
    return calendar.timegm(time.strptime(text, FORM))
