# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The catalog: which backups there are, from the volumes' tags alone. Decisions without I/O.

Volumes come as ``amazon.aws.ec2_vol_info`` returns them. Anybody can edit tags: whatever a volume's
tags contain or lack, the volume is listed with what can be read.
"""

from __future__ import annotations

import datetime
import fnmatch
import math
import re
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import EXPIRES, RUN_ID, STATUS, expired
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.plan import tag_value

SOURCE = "ec2-backup:source"
BYTES = "ec2-backup:bytes"
FINISHED = "ec2-backup:finished"

_STAMP = times.FORM

# USD a month in us-east-1, as of 2026: per GiB; per IOPS; per MiB/s of throughput (https://aws.amazon.com/ebs/pricing/).
# The requests to a standard volume are not priced.
LIST_PRICES = {
    "gp2": 0.10,
    "gp3": 0.08,
    "gp3-iops": 0.005,
    "gp3-throughput": 0.04,
    "io1": 0.125,
    "io1-iops": 0.065,
    "io2": 0.125,
    "io2-iops": 0.065,
    "sc1": 0.015,
    "st1": 0.045,
    "standard": 0.05,
}
# Included in the price of a gp3 volume.
GP3_IOPS, GP3_THROUGHPUT = 3000, 125
# (x, y): from x IOPS on, each costs y times the first price.
IO2_TIERS = ((0, 1.0), (32000, 0.7), (64000, 0.49))

Volume = Any  # as amazon.aws.ec2_vol_info returns it
Entry = Any  # what is told of one volume


def _moment(text: object, form: str = _STAMP) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(str(text), form).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


def _created(volume: Volume) -> datetime.datetime | None:
    """Return when EC2 made the volume: that is given as a datetime or in ISO format, always in UTC."""
    return _moment(str(volume.get("create_time")).replace(" ", "T")[:19], "%Y-%m-%dT%H:%M:%S")


def _stamp(moment: datetime.datetime | None) -> str | None:
    return moment.strftime(_STAMP) if moment else None


def split_source(text: str) -> tuple[str | None, str | None]:
    """Return host and path of a source tag, ``host:path``. Text without a colon is a path."""
    host, colon, path = text.partition(":")
    if not colon or host.startswith("/"):
        host, path = "", text
    return host or None, path or None


def _is(text: str | None, wanted: str) -> bool:
    """Return whether a text equals ``wanted``, or matches it as a shell pattern; an empty ``wanted`` matches all."""
    return not wanted or (text is not None and (text == wanted or fnmatch.fnmatchcase(text, wanted)))


def _wanted(tag: str, source: str, host: str) -> bool:
    its_host, its_path = split_source(tag)
    # A tag may hold only part of the source: its length is limited, and it has no unprintable characters.
    same = bool(source) and tag == tag_value(f"{its_host}:{source}")
    return _is(its_host, host) and (same or _is(its_path, source))


def state(volume: Volume, now: datetime.datetime) -> str:
    """Return ``complete``, ``writing`` (now), ``interrupted`` (while writing), or ``unknown`` if no tag says it."""
    tags = volume.get("tags") or {}
    if tags.get(STATUS) == "complete":
        return "complete"
    if tags.get(STATUS) != "writing":
        return "unknown"
    attached = any(item.get("status") not in ("detaching", "detached") for item in volume.get("attachment_set") or [])
    coming = volume.get("status") == "creating"  # the launch of an instance is making it
    return "writing" if (attached or coming) and not expired(tags.get(EXPIRES), now) else "interrupted"


def price_table(given: Any = None) -> dict[str, float]:
    """Return the prices that are given, or the list prices of us-east-1 if there are none.

    :raises ValueError: a price is no number, or is below zero.
    """
    table = {}
    for name, value in (given or LIST_PRICES).items():
        try:
            table[str(name)] = float(value)
        except (TypeError, ValueError):
            table[str(name)] = math.nan
        if not 0 <= table[str(name)] < math.inf:
            raise ValueError(f"ec2_backup_catalog_prices has {value!r} for {name}: give a number, in USD per month.")
    return table


def price_per_month(volume: Volume, prices: dict[str, float]) -> float | None:
    """Return a volume's price in USD a month; None if ``prices`` lacks one that it needs."""
    kind, iops = str(volume.get("type")), volume.get("iops") or 0
    amounts = {kind: volume.get("size") or 0}
    if kind == "gp3":
        amounts["gp3-iops"] = max(0, iops - GP3_IOPS)
        amounts["gp3-throughput"] = max(0, (volume.get("throughput") or 0) - GP3_THROUGHPUT)
    elif kind == "io1":
        amounts["io1-iops"] = iops
    elif kind == "io2":
        ends = [start for start, _ in IO2_TIERS[1:]] + [math.inf]
        amounts["io2-iops"] = sum(max(0, min(iops, end) - start) * part for (start, part), end in zip(IO2_TIERS, ends))
    amounts = {name: amount for name, amount in amounts.items() if amount or name == kind}
    if any(name not in prices for name in amounts):
        return None
    return round(sum(prices[name] * amount for name, amount in amounts.items()), 2)


def _is_backup(volume: Volume) -> bool:
    """Return whether the volume is a backup, or is to become one.

    A launch gives the instance's root volume the same tags as the new volume. But the root volume is made from the
    image's snapshot, and a new volume of ours is empty.
    """
    tags = volume.get("tags") or {}
    temporary = tags.get(STATUS) != "complete" and RUN_ID in tags and bool(volume.get("snapshot_id"))
    return SOURCE in tags and not temporary and volume.get("status") not in ("deleting", "deleted")


def _entry(volume: Volume, now: datetime.datetime, prices: dict[str, float]) -> Entry:
    tags = volume["tags"]
    # While a volume is overwritten, its tags may still be those of the backup before.
    has_backup = tags.get(STATUS) != "writing"
    finished = _moment(tags.get(FINISHED)) if has_backup else None
    count = str(tags.get(BYTES)) if has_backup else ""
    host, path = split_source(tags[SOURCE])
    return {
        "volume_id": volume["id"],
        "name": tags.get("Name"),
        "run_id": tags.get(RUN_ID),
        "source_host": host,
        "source_path": path,
        "state": state(volume, now),
        "bytes": int(count) if re.match("^[0-9]{1,20}$", count) else None,
        "created": _stamp(_created(volume)),
        "finished": _stamp(finished),
        "age_seconds": max(0, int((now - finished).total_seconds())) if finished else None,
        "zone": volume.get("zone"),
        "size_gib": volume.get("size"),
        "volume_type": volume.get("type"),
        "encrypted": volume.get("encrypted"),
        "volume_state": volume.get("status"),
        "price_per_month": price_per_month(volume, prices),
    }


def entries(
    volumes: list[Volume],
    now: datetime.datetime | None = None,
    source: str = "",
    host: str = "",
    prices: Any = None,
) -> list[Entry]:
    """Return an entry for each volume that is a backup, or was to become one, the newest first.

    The time of a backup is when it was finished, or else when the volume was made.

    :param now: the time; an aware datetime.
    :param source: only backups of this path, or of paths that match it as a shell pattern (``*`` matches ``/`` too).
    :param host: the same for the host's name.
    :param prices: USD a month, as in ``LIST_PRICES``, which is used if it is empty.
    :raises ValueError: a price is no number, or is below zero.
    """
    moment = now or datetime.datetime.now(datetime.timezone.utc)
    table = price_table(prices)
    found = [
        _entry(volume, moment, table)
        for volume in volumes
        if _is_backup(volume) and _wanted(volume["tags"][SOURCE], source, host)
    ]
    found.sort(key=lambda entry: str(entry["volume_id"]))  # EC2 returns them in no particular order
    return sorted(found, key=lambda entry: entry["finished"] or entry["created"] or "", reverse=True)
