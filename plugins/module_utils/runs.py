# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run's ID and its expiry, as its tags have them. Standard library only."""

from __future__ import annotations

import secrets
import time

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times


def new_run_id() -> str:
    """Return a unique ID that sorts by time: ``20261122t184500z-1f2e3d4c``."""
    return time.strftime("%Y%m%dt%H%M%Sz-", time.gmtime()) + secrets.token_hex(4)


def run_id(given: str = "") -> str:
    """Return the ID of a run: the given one, or a new one."""
    return given or new_run_id()


def expires(lifetime: int) -> str:
    """Return the time after so many seconds from now, for the tag ``ec2-backup:expires``."""
    return times.stamp(time.time() + int(lifetime))
