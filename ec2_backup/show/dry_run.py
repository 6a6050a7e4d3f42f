# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup backup --dry-run``: prints the plan that the role returns, for people or for programs."""

from collections.abc import Mapping
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import printable
from ec2_backup.run.supervise import Supervised
from ec2_backup.show.progress import binary
from ec2_backup.show.report import Report, emit_result, end_failed, name
from ec2_backup.status import Status

UNAUTHORISED = "UnauthorizedOperation"

Plan = Mapping[str, Any]  # docs/dry-run.md describes it


def _archive(plan: Plan) -> str:
    size = f"{binary(plan['archive_bytes'])} ({plan['archive_bytes']} bytes)"
    filters = " | ".join(filter(None, (plan["local_filter"], plan["remote_filter"])))
    if not filters:
        return size
    return f"{size} before the filter {printable(filters)}; the length of what comes out is not known"


def _volume(plan: Plan) -> str:
    volume = plan["volume"]
    parts = [
        volume["id"] or "new",
        f"{volume['size_gib']} GiB",
        volume["type"],
        f"{volume['iops']} IOPS" if volume["iops"] else "",
        f"{volume['throughput']} MiB/s" if volume["throughput"] else "",
        "encrypted" if volume["encrypted"] else "not encrypted",
        f"by {volume['kms_key_id']}" if volume["kms_key_id"] else "",
    ]
    return ", ".join(filter(None, parts))


def _where(plan: Plan) -> str:
    others = plan["other_zones"]
    return f"{plan['region']}, zone {plan['zone']}" + (f", or if that is full {', '.join(others)}" if others else "")


def _instance(plan: Plan) -> str:
    others = ", ".join(plan["other_instance_types"])
    return f"{plan['instance_type']}, or if there is none {others}" if others else str(plan["instance_type"])


def _network(plan: Plan) -> str:
    groups = plan["security_group_ids"]
    inbound = f"group {', '.join(groups)}" if groups else f"a group of its own: tcp/22 from {plan['lets_in']}"
    return f"{plan['subnet_id']}, {'public' if plan['public_address'] else 'private'} address, {inbound}"


def _volume_costs(plan: Plan) -> str:
    price = plan["cost"]["volume_per_month"]
    if price is None:
        return f"not known: there is no price of {plan['volume']['type']} here"
    return f"{price:.2f} USD a month" + (", as before" if plan["volume"]["id"] else "")


def _run_costs(plan: Plan) -> str:
    cost = plan["cost"]
    address = f"public IPv4 address {cost['address_per_hour']:.4f}" if cost["address_per_hour"] else ""
    if cost["run_per_hour"] is None:
        known = f"; {address} USD an hour" if address else ""
        return f"not known: there is no price of {plan['instance_type']} here{known}"
    parts = " + ".join(filter(None, (f"{plan['instance_type']} {cost['instance_per_hour']:.4f}", address)))
    least = cost["run_seconds_least"]
    return f"{cost['run_per_hour']:.4f} USD an hour ({parts}), billed by the second, for {least} s at least"


def _prices(plan: Plan) -> str:
    cost = plan["cost"]
    text = f"list prices of {cost['prices_of']}, {cost['prices_as_of']}"
    if cost["volume_prices_given"]:
        text += "; the volume's by ec2_backup_catalog_prices"
    return text + ("" if plan["region"] == cost["prices_of"] else f"; those of {plan['region']} differ")


def _unsure(plan: Plan, refused: bool) -> str:
    """Return the permissions that are not certain, in words.

    EC2 was asked with placeholder IDs, as only a run makes the resources.
    """
    named = ", ".join(entry["permission"] for entry in plan["unsure"] if (entry["code"] == UNAUTHORISED) == refused)
    if not named:
        return ""
    if refused:
        return f"{named}: for placeholder IDs, which is right if the policy permits it for what is tagged by a run"
    return f"{named}: EC2 says so only when the resource exists"


def lines(plan: Plan) -> list[str]:
    """Return the plan for people, as aligned lines."""
    shown = {
        "source": printable(f"{plan['source']['host']}:{plan['source']['path']}"),
        "archive": _archive(plan),
        "volume": _volume(plan),
        "name": printable(plan["name"]),
        "where": _where(plan),
        "instance": _instance(plan),
        "image": plan["image_id"],
        "network": _network(plan),
        "volume costs": _volume_costs(plan),
        "a run costs": _run_costs(plan),
        "prices": _prices(plan),
        "allowed": ", ".join(plan["allowed"]),
        "not known": _unsure(plan, refused=False),
        "refused": _unsure(plan, refused=True),
    }
    width = max(map(len, shown)) + 2
    return [f"{key:{width}}{text}" for key, text in shown.items() if text]


def as_object(plan: Plan) -> dict[str, Any]:
    """Return the plan for programs."""
    source = {key: name(value) for key, value in plan["source"].items()}
    return {"dry_run": True, **plan, "source": source}


def asked_for(variables: Mapping[str, Any]) -> bool:
    """Return whether these role variables ask for a dry run. A variable of the command line is a string."""
    return str(variables.get("ec2_backup_dry_run", "")).lower() in ("1", "on", "t", "true", "y", "yes")


def conclude(run: Supervised, report: Report) -> int:
    """Print the plan, or the error, and return the exit status."""
    for warning in run.outcome.warnings:
        report.warn(warning)
    plan = run.outcome.results.get("ec2_backup_plans", {}).get("localhost")
    if run.signal is not None or run.outcome.rc != 0 or not plan:
        return end_failed(run, report)
    if plan["unreadable"]:
        report.warn(f"{plan['unreadable']} files or directories cannot be read, and would be missing in the backup")
    return emit_result(report, Status.DONE, as_object(plan), lines(plan), "the plan")
