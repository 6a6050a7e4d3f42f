# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is to go, and what became of it: the decisions of the role cleanup, without I/O.

The module run_look looks and lets C(plan) decide, run_remove acts, and C(progress) takes the results in, round after
round, until that says that nothing is left to do. What the next look shows counts, not what a failed call claimed: so
two cleanups at once, or a thing that somebody else removed meanwhile, are nothing special.

Instances, volumes and security groups come as EC2 describes them, with names as Ansible writes them (C(instance_id),
C(volume_id)) and their tags as a dictionary.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

RUN_ID = "ec2-backup:run-id"
STATUS = "ec2-backup:status"
EXPIRES = "ec2-backup:expires"
GROUP_PREFIX = "ec2-backup-"

# Failures that a further try cannot cure, and those that time does: a network interface outlives its instance for a
# while, a state changes. All others (throttling, EC2's own trouble) have been retried in the modules for a while.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
HOPELESS = {
    "AuthFailure",
    "ExpiredToken",
    "InvalidClientTokenId",
    "OperationNotPermitted",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
}
PASSING = {"DependencyViolation", "IncorrectInstanceState", "IncorrectState", "VolumeInUse"}
TRIES = 3
TRIES_PASSING = 12
LONGEST_PAUSE = 10  # seconds
ACTS = ("detach", "terminate", "delete")

Thing = Any  # an instance, a volume or a group
Entry = Any  # {"kind", "id", "action", "run_id", "step", …}: one thing, and what is to become of it


def expired(stamp: str | None, now: datetime.datetime) -> bool:
    """Whether the time of an C(ec2-backup:expires) tag has passed. What cannot be read has not: in doubt hands off."""
    try:
        moment = datetime.datetime.strptime(stamp or "", "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return False
    return moment.replace(tzinfo=datetime.timezone.utc) < now


def _tags(thing: Thing) -> Any:
    return thing.get("tags") or {}


def _state(instance: Thing) -> str:
    return str(instance["state"]["name"])


def _holders(volume: Thing) -> list[str]:
    return [item["instance_id"] for item in volume.get("attachments") or [] if item.get("state") != "detached"]


def _entry(kind: str, name: str, action: str, run_id: str, step: str, **more: Any) -> Entry:
    return {"kind": kind, "id": name, "action": action, "run_id": run_id, "step": step, **more}


def _instance_entry(instance: Thing, unsure: bool) -> Entry:
    """An instance that must go; C(unsure): it might take a finished backup along."""
    state, name = _state(instance), instance["instance_id"]
    step = "watch" if state == "shutting-down" else "follow" if unsure else "terminate"
    return _entry("instance", name, "terminated", _tags(instance)[RUN_ID], step, why=f"it is {state}")


def _attached_entries(instance: Thing, volumes: Any) -> Iterable[Entry]:
    """What must outlive the instance that is to be terminated: all that this run did not make, and what is complete."""
    run_id = _tags(instance)[RUN_ID]
    for mapping in instance.get("block_device_mappings") or []:
        name = (mapping.get("ebs") or {}).get("volume_id")
        tags = _tags(volumes.get(name, {}))
        complete = tags.get(STATUS) == "complete"
        if not name or mapping["device_name"] == instance.get("root_device_name"):
            continue
        if tags.get(RUN_ID) == run_id and not complete:
            continue
        dies = bool(mapping["ebs"].get("delete_on_termination"))
        steady = _state(instance) in ("running", "stopped")
        yield _entry(
            "volume",
            name,
            "detached",
            tags.get(RUN_ID, run_id),
            # EC2 itself detaches at the termination what does not die with it.
            "detach" if steady and (dies or complete) else "follow",
            instance_id=instance["instance_id"],
            blocks=dies,
            after=[instance["instance_id"]],
            why=f"it is attached to {instance['instance_id']}",
        )


def _volume_entry(volume: Thing, known: Any, going: Any) -> Entry | None:
    """An uncommitted volume whose time has come; C(step) is C(keep) where somebody else has it, None: not yet."""
    name, run_id, holders = volume["volume_id"], _tags(volume)[RUN_ID], _holders(volume)
    foreign = [holder for holder in holders if _tags(known.get(holder, {})).get(RUN_ID) != run_id]
    if foreign:
        return _entry("volume", name, "deleted", run_id, "keep", why=f"it is attached to {foreign[0]}")
    if any(holder not in going and _state(known[holder]) != "terminated" for holder in holders):
        return None
    waits = holders or volume["state"] == "creating"
    why = f"it is attached to {holders[0]}" if holders else f"it is {volume['state']}"
    return _entry("volume", name, "deleted", run_id, "follow" if waits else "delete", after=holders, why=why)


def _group_entry(group: Thing, users: Any, going: Any) -> Entry:
    name, run_id = group["group_id"], _tags(group)[RUN_ID]
    using = [
        user
        for user, instance in users.items()
        if name in [used.get("group_id") for used in instance.get("security_groups") or []]
    ]
    foreign = [user for user in using if user not in going]
    step = "keep" if foreign else "follow" if using else "delete"
    why = f"{(foreign or using)[0]} uses it" if using else ""
    return _entry("security-group", name, "deleted", run_id, step, after=using, why=why)


def _completed(volumes: Any, run_id: str) -> list[str] | None:
    if volumes is None:
        return None
    want = {RUN_ID: run_id, STATUS: "complete"}
    return [
        str(volume["volume_id"])
        for volume in volumes
        if want.items() <= _tags(volume).items() and volume["state"] == "available" and not _holders(volume)
    ]


def plan(look: Any, run_id: str = "", now: datetime.datetime | None = None) -> dict[str, Any]:
    """What is to become of what a look at the account showed.

    :param look: C(instances), C(volumes), C(groups), and C(users): further instances that were asked for because they
        use one of the groups. None stands for what could not be seen: without the volumes nothing is terminated,
        without the instances nothing is touched.
    :param run_id: the run whose things are to go. Where it is empty, those of every run that are past their expiry.
    :param now: the time; an aware datetime.
    :returns: C(entries), each with a C(step): C(detach) before anything is terminated, C(terminate), C(delete), or
        wait for what an earlier step or EC2 will bring about (C(follow)) or somebody else has begun (C(watch)).
        C(kept): what has expired, but is in use by somebody else. C(complete): the IDs of the volumes that the run
        has completed and that no instance has; None if the volumes could not be seen.
    :raises ValueError: an instance without an ID.
    """
    moment = now or datetime.datetime.now(datetime.timezone.utc)
    complete = _completed(look.get("volumes"), run_id)
    if look.get("instances") is None:
        return {"entries": [], "kept": [], "complete": complete}

    def due(thing: Thing) -> bool:
        owner = _tags(thing).get(RUN_ID)
        return bool(owner) and (owner == run_id if run_id else expired(_tags(thing).get(EXPIRES), moment))

    known = {instance.get("instance_id"): instance for instance in look["instances"]}
    if not all(re.match(r"i-[0-9a-f]+$", name or "") for name in known):
        raise ValueError("EC2 named an instance without an ID; nothing was terminated.")
    volumes_known = look.get("volumes") is not None
    volumes = {volume["volume_id"]: volume for volume in look.get("volumes") or []}
    users = {instance["instance_id"]: instance for instance in look.get("users") or []}
    users = {name: user for name, user in {**users, **known}.items() if _state(user) != "terminated"}
    going = {name: user for name, user in users.items() if due(user)}

    entries = []
    for name in (name for name in going if name in known):
        attached: list[Entry] = []
        if volumes_known and _state(known[name]) != "shutting-down":
            attached = list(_attached_entries(known[name], volumes))
        stuck = any(entry["blocks"] and entry["step"] == "follow" for entry in attached)
        entries += [_instance_entry(known[name], stuck or not volumes_known), *attached]
    for volume in volumes.values():
        if due(volume) and _tags(volume).get(STATUS) != "complete" and volume["state"] not in ("deleting", "deleted"):
            entry = _volume_entry(volume, known, going)
            entries += [entry] if entry else []
    for group in look.get("groups") or []:
        if due(group) and group["group_name"].startswith(GROUP_PREFIX):
            entries.append(_group_entry(group, users, going))
    return {
        "entries": [entry for entry in entries if entry["step"] != "keep"],
        "kept": [entry for entry in entries if entry["step"] == "keep"],
        "complete": complete,
    }


def has_work(planned: Any) -> bool:
    """Whether there is more to do about a plan than to wait."""
    # What is kept may have a holder that the look came too early for.
    kept = any(entry["kind"] == "volume" for entry in planned["kept"])
    return kept or any(entry["step"] in ACTS for entry in planned["entries"])


def _line(text: Any) -> str:
    return " ".join(str(text or "no reason was given").split())


def _limit(code: str) -> int:
    return 1 if code in HOPELESS else TRIES_PASSING if code in PASSING else TRIES


def _public(entry: Entry, **more: str) -> dict[str, str]:
    return {key: str(entry[key]) for key in ("kind", "id", "action", "run_id")} | more


def describe(entry: Entry, what: str) -> str:
    """One line about a thing, for people."""
    return f"{entry['kind'].replace('-', ' ')} {entry['id']} of run {entry['run_id']}: {what}"


class _Tally:
    """How often each thing has failed, why, and whether it is to be tried once more."""

    def __init__(self, state: Any) -> None:
        self.tries: dict[str, int] = dict(state.get("tries") or {})
        self.errors: dict[str, str] = dict(state.get("errors") or {})
        self.given_up: list[str] = list(state.get("given_up") or [])
        self.worst = 0

    def fail(self, name: str, message: str, code: str = "") -> None:
        self.tries[name] = self.tries.get(name, 0) + 1
        self.errors[name] = message
        self.worst = max(self.worst, self.tries[name])
        if self.tries[name] >= _limit(code) and name not in self.given_up:
            self.given_up.append(name)

    def hopes_for(self, entry: Entry) -> bool:
        return not any(name in self.given_up for name in [entry["id"], *entry.get("after", [])])


def _take_in(planned: Any, removal: Any, tally: _Tally) -> set[str]:
    """Count the failures of a round; return the IDs of what is done for good."""
    outcomes = removal.get("outcomes") or []
    if removal.get("failed"):  # by itself, not with a thing: none of it counts as done
        outcomes = [{**entry, "error": removal.get("msg")} for entry in planned["entries"] if entry["step"] in ACTS]
    done: set[str] = set()
    for outcome in outcomes:
        if outcome["error"] or removal.get("failed"):
            tally.fail(outcome["id"], _line(outcome["error"]), outcome.get("code", ""))
        elif outcome["step"] != "terminate":
            done.add(outcome["id"])
    return done


def progress(
    state: Any, look: Any, removal: Any, interval: float = 2, now: datetime.datetime | None = None
) -> dict[str, Any]:
    """The role's state after a round.

    :param state: the state before; at first only C(deadline), in seconds since the epoch.
    :param look: the round's result of the module run_look: what C(plan) returned, and C(errors) and C(looks).
    :param removal: that of run_remove, with its C(outcomes); empty if it did not run.
    :param interval: seconds to pause after a first failure; doubled with each further one.
    :returns: the new state. C(again): another round is needed, after C(pause) seconds. C(removed), C(left), C(kept)
        and C(would) are results for others, C(lines) the same for people. C(complete): the run's finished volumes that
        no instance has. C(trouble): why the last look showed nothing.
    """
    moment = now or datetime.datetime.now(datetime.timezone.utc)
    tally = _Tally(state)
    errors = list((look.get("errors") or {}).values())
    unseen = look if look.get("failed") else next(iter(errors), None)
    planned = {"entries": look.get("entries") or [], "kept": look.get("kept") or []}
    blind = state.get("blind", 0) + 1 if unseen else 0
    done = _take_in(planned, removal, tally)
    for entry in planned["kept"]:
        # Its holder may be an instance of ours that the look came too early for.
        if entry["kind"] == "volume":
            tally.fail(entry["id"], entry["why"])

    here = {entry["id"]: entry for entry in planned["entries"]}
    still = {name: entry for name, entry in here.items() if name not in done}
    if unseen:
        still = {**(state.get("still") or {}), **still}
    seen = {**(state.get("seen") or {}), **{name: e for name, e in here.items() if e["step"] != "watch"}}
    kept = [_public(entry, why=entry["why"]) for entry in planned["kept"]]
    staying = {*still, *(entry["id"] for entry in kept)}
    left = [_public(entry, why=tally.errors.get(name) or entry.get("why", "")) for name, entry in still.items()]
    removed = [_public(entry) for name, entry in seen.items() if name not in staying]
    would = [_public(entry) for entry in here.values() if entry["step"] != "watch"]

    hope = any(tally.hopes_for(entry) for entry in [*still.values(), *planned["kept"]] if _waits(entry))
    if unseen:
        hope = blind < _limit(str(unseen.get("code", "")))
    again = hope and moment.timestamp() < state["deadline"]
    doubled = max(tally.worst, blind)
    return {
        "deadline": state["deadline"],
        "rounds": state.get("rounds", 0) + 1,
        "looks": state.get("looks", 0) + int(look.get("looks", 1)),
        "blind": blind,
        "tries": tally.tries,
        "errors": tally.errors,
        "given_up": tally.given_up,
        "seen": seen,
        "still": still,
        "again": again,
        "pause": int(min(LONGEST_PAUSE, interval * 2 ** (doubled - 1))) if again and doubled else 0,
        "trouble": _line(unseen.get("msg")) if unseen else "",
        "removed": removed,
        "left": left,
        "kept": kept,
        "would": would,
        "complete": state.get("complete", []) if look.get("complete") is None else look["complete"],
        "lines": {
            "removed": [describe(entry, entry["action"]) for entry in removed],
            "left": [describe(entry, entry["why"]) for entry in left],
            "kept": [describe(entry, f"kept, since {entry['why']}") for entry in kept],
            "would": [describe(entry, f"would be {entry['action']}") for entry in would],
        },
    }


def _waits(entry: Entry) -> bool:
    return bool(entry["kind"] == "volume" or entry["step"] != "keep")
