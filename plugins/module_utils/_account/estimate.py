# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a backup would make, and about what it costs: the plan that a dry run hands back, without I/O."""

from __future__ import annotations

from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.catalog import price_per_month, price_table

# USD an hour in us-east-1, as of 2026, of the small types that a backup needs: on demand, with Linux
# (https://aws.amazon.com/ec2/pricing/on-demand/). What a type draws beyond its CPU credits is not in it.
INSTANCE_PRICES = {
    "t3.nano": 0.0052,
    "t3.micro": 0.0104,
    "t3.small": 0.0208,
    "t3.medium": 0.0416,
    "t3.large": 0.0832,
    "t3a.nano": 0.0047,
    "t3a.micro": 0.0094,
    "t3a.small": 0.0188,
    "t3a.medium": 0.0376,
    "t3a.large": 0.0752,
    "t4g.nano": 0.0042,
    "t4g.micro": 0.0084,
    "t4g.small": 0.0168,
    "t4g.medium": 0.0336,
    "t4g.large": 0.0672,
}
ADDRESS_PRICE = 0.005  # the same for a public IPv4 address, everywhere (https://aws.amazon.com/vpc/pricing/)
PRICES_OF, PRICES_AS_OF = "us-east-1", "2026"
# Linux instances and addresses are billed by the second (https://aws.amazon.com/ec2/pricing/), this long at least.
LEAST_SECONDS = 60

Facts = Any  # what the role backup knows when it has decided on everything
Plan = Any  # what a dry run hands back


def cost(volume: Plan, instance_type: str, public_address: bool, prices: Any = None) -> Plan:
    """Return about what a backup costs, in USD; None for what there is no price of.

    :param volume: ``type``, ``size_gib``, ``iops`` and ``throughput`` of the volume.
    :param prices: of volumes, as in ``catalog.LIST_PRICES``, which is used where it is empty.
    :raises ValueError: a price is no number, or is below zero.
    """
    instance = INSTANCE_PRICES.get(instance_type)
    address = ADDRESS_PRICE if public_address else 0.0
    return {
        "currency": "USD",
        "volume_per_month": price_per_month({**volume, "size": volume["size_gib"]}, price_table(prices)),
        "volume_prices_given": bool(prices),
        "instance_per_hour": instance,
        "address_per_hour": address,
        "run_per_hour": None if instance is None else round(instance + address, 6),
        "run_seconds_least": LEAST_SECONDS,
        "prices_of": PRICES_OF,
        "prices_as_of": PRICES_AS_OF,
    }


def _volume(plan: Any, found: Any) -> Plan:
    """Return the given volume, or the new one as the launch asks for it."""
    given, new = plan["volume"]["given"], plan["volume"]["mapping"]["ebs"]
    shown = found if given else new
    return {
        "id": plan["volume"]["volume_id"] if given else None,
        "size_gib": int(plan["volume"]["size_gib"]),
        "type": shown["volume_type"],
        "iops": int(shown.get("iops") or 0) or None,
        "throughput": int(shown.get("throughput") or 0) or None,
        "encrypted": bool(shown.get("encrypted", True)),
        "kms_key_id": None if given else new.get("kms_key_id") or None,
    }


def backup_plan(facts: Facts, prices: Any = None) -> Plan:
    """Return what a backup would make, as a dry run hands it back.

    :param facts: ``source`` (as source_info returns it), ``plan`` (of the run), ``found`` (the given volume),
        ``permissions`` (as permission_check returns them), ``client_address``.
    :param prices: as for ``cost``.
    :returns: a dictionary; docs/dry-run.md describes its keys.
    :raises ValueError: a price is no number, or is below zero.
    """
    plan, permissions, instance = facts["plan"], facts["permissions"], facts["plan"]["instance"]
    chosen, groups = permissions["candidate"], list(instance["security_group_ids"])
    others = [other for other in instance["candidates"] if other != chosen]
    volume, public_address = _volume(plan, facts["found"]), instance["address"] == "public"
    return {
        "source": {key: facts["source"][key] for key in ("host", "path")},
        "archive_bytes": int(facts["source"]["archive_bytes"]),
        "unreadable": int(facts["source"]["source_warnings_count"]),
        "local_filter": plan["stream"]["local_filter"] or None,
        "remote_filter": plan["stream"]["remote_filter"] or None,
        "verify": bool(plan["stream"]["read_back"]),
        "volume": volume,
        "name": plan["user_tags"]["Name"],
        "region": permissions["region"],
        "zone": chosen["zone"],
        "other_zones": sorted({other["zone"] for other in others} - {chosen["zone"]}),
        "instance_type": chosen["instance_type"],
        "other_instance_types": sorted({other["instance_type"] for other in others} - {chosen["instance_type"]}),
        "image_id": instance["image_id"],
        "subnet_id": chosen["subnet_id"],
        "public_address": public_address,
        "security_group_ids": groups or None,
        "lets_in": None if groups else facts["client_address"] + "/32",
        "allowed": list(permissions["allowed"]),
        "unsure": list(permissions["unsure"]),
        "cost": cost(volume, chosen["instance_type"], public_address, prices),
    }
