# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs have left in the account: what is to go, and what became of it. Decisions only, without I/O.

``plan`` decides on what one look at the account showed, ``Progress`` keeps the results of all looks; ending.py looks
and acts. What the next look shows counts, not what a failed call reported: so two cleanups at the same time, or a thing
that somebody else removed meanwhile, need no code of their own.

Instances, volumes and security groups come as EC2 describes them, with names as Ansible writes them (``instance_id``,
``volume_id``) and their tags as a dictionary.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times

RUN_ID = "ec2-backup:run-id"
STATUS = "ec2-backup:status"
EXPIRES = "ec2-backup:expires"
GROUP_PREFIX = "ec2-backup-"

# Failures that a further try cannot cure, and those that time does: a network interface outlives its instance for a
# while, a state changes. All others (throttling, EC2's own trouble) have been retried within the call for a while.
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
LONGEST_PAUSE = 10.0  # seconds
ACTS = ("detach", "terminate", "delete")  # in this order

Thing = Any  # an instance, a volume or a group


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing, and what is to become of it.

    :ivar kind: ``instance``, ``volume`` or ``security-group``.
    :ivar action: the result: ``terminated``, ``detached`` or ``deleted``.
    :ivar step: what to do now: one of ``ACTS``; or ``follow``, wait for what this run's end brings about; ``watch``,
        wait for what somebody else has begun; ``keep``, leave it, as somebody else uses it.
    :ivar why: why it is still there, for people.
    :ivar after: the instances that must be gone before it can go.
    :ivar instance_id: what it is to be detached from.
    :ivar blocks: that instance must not be terminated before, as the volume would be deleted with it.
    """

    kind: str
    id: str
    action: str
    run_id: str
    step: str
    why: str = ""
    after: tuple[str, ...] = ()
    instance_id: str = ""
    blocks: bool = False


class Plan(NamedTuple):
    """What is to become of what a look showed."""

    entries: list[Entry]  # what is to go
    kept: list[Entry]  # what would have to go, but is in use by somebody else
    complete: list[str] | None  # IDs of the run's finished volumes that no instance has; None: volumes not seen


class Outcome(NamedTuple):
    """What became of one entry that was acted on; ``error`` is empty if it worked, ``code`` is EC2's own."""

    entry: Entry
    error: str = ""
    code: str = ""


def expired(stamp: str | None, now: datetime.datetime) -> bool:
    """Return whether the time of an ``ec2-backup:expires`` tag has passed. One that cannot be read has not."""
    try:
        moment = datetime.datetime.strptime(stamp or "", times.FORM)
    except ValueError:
        return False
    return moment.replace(tzinfo=datetime.timezone.utc) < now


def _tags(thing: Thing) -> Any:
    return thing.get("tags") or {}


def _state(instance: Thing) -> str:
    return str(instance["state"]["name"])


def _holders(volume: Thing) -> list[str]:
    return [item["instance_id"] for item in volume.get("attachments") or [] if item.get("state") != "detached"]


class _Scope:
    """Which things are to go: those of one run, or of every run that is past its expiry."""

    def __init__(
        self, run_id: str, now: datetime.datetime | None, named: Collection[str], asked: Collection[str]
    ) -> None:
        self.run_id, self.named, self.asked = run_id, named, asked
        self.now = now or datetime.datetime.now(datetime.timezone.utc)

    def due(self, thing: Thing) -> bool:
        # By the letter, as EC2's filters know wildcards.
        owner = _tags(thing).get(RUN_ID)
        return bool(owner) and (owner == self.run_id if self.run_id else expired(_tags(thing).get(EXPIRES), self.now))

    def ending(self, instance: Thing) -> bool:
        """Return whether an instance needs nothing more than time."""
        return _state(instance) == "shutting-down" or instance["instance_id"] in self.asked

    def unseen(self, instances: Iterable[Thing]) -> list[str]:
        """Return the named instances that EC2 does not show."""
        known = {instance["instance_id"] for instance in instances}
        return [name for name in self.named if name not in known]

    def instance(self, instance: Thing, stuck: bool, volumes_known: bool) -> Entry:
        """Return what is to become of an instance.

        :param stuck: a volume that is to outlive it cannot be detached from it now.
        :param volumes_known: whether the volumes could be looked at.
        """
        name = instance["instance_id"]
        if self.ending(instance):
            step = "follow" if name in self.named or name in self.asked else "watch"
        elif volumes_known:
            step = "follow" if stuck else "terminate"
        else:  # It might have a finished backup on it.
            step = "terminate" if name in self.named else "follow"
        return Entry("instance", name, "terminated", _tags(instance)[RUN_ID], step, f"it is {_state(instance)}")

    def hidden(self, name: str) -> Entry:
        """Return the entry of a named instance that EC2 does not show: just after a launch, or as a look failed."""
        step = "follow" if name in self.asked else "terminate"
        return Entry("instance", name, "terminated", self.run_id, step, "it has not been seen yet")

    def attached(self, instance: Thing, volumes: Any) -> Iterator[Entry]:
        """Yield what must outlive the instance: all that this run did not make, and what is complete."""
        run_id, holder = _tags(instance)[RUN_ID], instance["instance_id"]
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
            yield Entry(
                "volume",
                name,
                "detached",
                tags.get(RUN_ID, run_id),
                # EC2 itself detaches at the termination what is not deleted with the instance.
                "detach" if steady and (dies or complete) else "follow",
                f"it is attached to {holder}",
                after=(holder,),
                instance_id=holder,
                blocks=dies,
            )

    def volume(self, volume: Thing, known: Any, going: Any) -> Entry | None:
        """Return the entry of an uncommitted volume; None where it is not to go yet."""
        name, run_id, holders = volume["volume_id"], _tags(volume)[RUN_ID], _holders(volume)
        foreign = [holder for holder in holders if _tags(known.get(holder, {})).get(RUN_ID) != run_id]
        if foreign:
            return Entry("volume", name, "deleted", run_id, "keep", f"it is attached to {foreign[0]}")
        if any(holder not in going and _state(known[holder]) != "terminated" for holder in holders):
            return None
        waits = holders or volume["state"] == "creating"
        why = f"it is attached to {holders[0]}" if holders else f"it is {volume['state']}"
        return Entry("volume", name, "deleted", run_id, "follow" if waits else "delete", why, after=tuple(holders))

    def group(self, group: Thing, users: Any, going: Any) -> Entry:
        name, run_id = group["group_id"], _tags(group)[RUN_ID]
        using = [
            user
            for user, instance in users.items()
            if name in [used.get("group_id") for used in instance.get("security_groups") or []]
        ]
        foreign = [user for user in using if user not in going]
        step = "keep" if foreign else "follow" if using else "delete"
        why = f"{(foreign or using)[0]} uses it" if using else ""
        return Entry("security-group", name, "deleted", run_id, step, why, after=tuple(using))


def _completed(volumes: Iterable[Thing], run_id: str) -> list[str]:
    want = {RUN_ID: run_id, STATUS: "complete"}
    return [
        str(volume["volume_id"])
        for volume in volumes
        if want.items() <= _tags(volume).items() and volume["state"] == "available" and not _holders(volume)
    ]


def plan(
    look: Mapping[str, Any],
    run_id: str = "",
    now: datetime.datetime | None = None,
    named: Collection[str] = (),
    asked: Collection[str] = (),
    finished: Collection[str] = (),
) -> Plan:
    """Decide what is to become of what a look at the account showed.

    :param look: ``instances``, ``volumes``, ``groups``, and ``users``: further instances that were asked for because
        they use one of the groups. None stands for what could not be seen: without the instances nothing is touched,
        without the volumes nothing is terminated, but for what is ``named``.
    :param run_id: the run whose things are to go. Where it is empty, those of every run that are past their expiry.
    :param now: the time; an aware datetime.
    :param named: IDs of instances that are known to be the run's. They are terminated even if EC2 does not show them.
    :param asked: IDs of the instances whose termination EC2 has accepted lately.
    :param finished: IDs of volumes that are known to be complete, in case their tag does not say so yet.
    """
    scope = _Scope(run_id, now, named, asked)
    volumes_known = look.get("volumes") is not None
    volumes = {volume["volume_id"]: volume for volume in look.get("volumes") or []}
    for name in volumes.keys() & set(finished):
        volumes[name] = {**volumes[name], "tags": {**_tags(volumes[name]), STATUS: "complete"}}
    complete = _completed(volumes.values(), run_id) if volumes_known else None
    hidden = [scope.hidden(name) for name in scope.unseen(look.get("instances") or ())]
    if look.get("instances") is None:
        return Plan(hidden, [], complete)

    known = {instance["instance_id"]: instance for instance in look["instances"]}
    users = {instance["instance_id"]: instance for instance in look.get("users") or []}
    users = {name: user for name, user in {**users, **known}.items() if _state(user) != "terminated"}
    going = {name: user for name, user in users.items() if scope.due(user)}

    entries = hidden
    for instance in (known[name] for name in going if name in known):
        attached: list[Entry] = []
        if volumes_known and not scope.ending(instance):
            attached = list(scope.attached(instance, volumes))
        stuck = any(entry.blocks and entry.step == "follow" for entry in attached)
        entries += [scope.instance(instance, stuck, volumes_known), *attached]
    for volume in volumes.values():
        if (
            scope.due(volume)
            and _tags(volume).get(STATUS) != "complete"
            and volume["state"] not in ("deleting", "deleted")
        ):
            entry = scope.volume(volume, known, going)
            entries += [entry] if entry else []
    for group in look.get("groups") or []:
        if scope.due(group) and group["group_name"].startswith(GROUP_PREFIX):
            entries.append(scope.group(group, users, going))
    return Plan(
        [entry for entry in entries if entry.step != "keep"],
        [entry for entry in entries if entry.step == "keep"],
        complete,
    )


def only_time(
    instances: Iterable[Thing],
    run_id: str = "",
    now: datetime.datetime | None = None,
    named: Collection[str] = (),
    asked: Collection[str] = (),
) -> bool:
    """Return whether there are instances to wait for and none to do anything about.

    The arguments are those of ``plan``. While this is true, nothing else of the run can go, and need not be looked at.
    """
    scope, known = _Scope(run_id, now, named, asked), list(instances)
    hidden = scope.unseen(known)
    due = [instance for instance in known if scope.due(instance) and _state(instance) != "terminated"]
    waits = all(scope.ending(instance) for instance in due) and all(name in asked for name in hidden)
    return waits and bool(due or hidden)


def _line(text: Any) -> str:
    return " ".join(str(text or "no reason was given").split())


def _limit(code: str) -> int:
    return 1 if code in HOPELESS else TRIES_PASSING if code in PASSING else TRIES


def _public(entry: Entry, **more: str) -> dict[str, str]:
    return {"kind": entry.kind, "id": entry.id, "action": entry.action, "run_id": entry.run_id, **more}


def describe(entry: Mapping[str, str], what: str) -> str:
    """Return one line about a thing, for people."""
    return f"{entry['kind'].replace('-', ' ')} {entry['id']} of run {entry['run_id']}: {what}"


class Progress:
    """What has become of each thing so far.

    :param interval: seconds to pause after a first failure; doubled with each further one.
    :ivar again: whether a further look may find less.
    :ivar pause: seconds to wait before it, because of what failed; 0 if nothing did.
    :ivar trouble: why the last look did not show all, empty if it did.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self.interval = interval
        self.again, self.pause, self.trouble = True, 0.0, ""
        self._blind = 0  # how many looks in succession have failed
        self._tries: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._found: dict[str, Entry] = {}  # all that was ever to go, but for what somebody else has begun to remove
        self._left: dict[str, Entry] = {}
        self._plan = Plan([], [], [])
        self._complete: list[str] = []

    def _fail(self, name: str, message: str, code: str = "") -> int:
        self._tries[name] = self._tries.get(name, 0) + 1
        self._errors[name] = message
        if self._tries[name] >= _limit(code):
            self._given_up.add(name)
        return self._tries[name]

    def _worth_trying(self, entry: Entry) -> bool:
        return not self._given_up.intersection((entry.id, *entry.after))

    def take(self, planned: Plan, outcomes: Iterable[Outcome] = (), unseen: str = "", code: str = "") -> None:
        """Record what a look showed, and what became of what was then done.

        :param unseen: why the look did not show all; empty if it did. What it did not show then counts as unknown, not
            as gone.
        :param code: EC2's code of that error.
        """
        done, worst = set(), 0
        for outcome in outcomes:
            if outcome.error:
                worst = max(worst, self._fail(outcome.entry.id, _line(outcome.error), outcome.code))
            elif outcome.entry.step != "terminate":
                done.add(outcome.entry.id)
        # Its holder may be an instance of the run that the look came too early for.
        doubtful = [entry for entry in planned.kept if entry.kind == "volume"]
        for entry in doubtful:
            worst = max(worst, self._fail(entry.id, entry.why))

        self._plan = planned
        here = {entry.id: entry for entry in planned.entries}
        self._found.update({name: entry for name, entry in here.items() if entry.step != "watch"})
        self._left = {**(self._left if unseen else {}), **here}
        for name in done:
            del self._left[name]
        if planned.complete is not None:
            self._complete = planned.complete

        self._blind = self._blind + 1 if unseen else 0
        self.trouble = _line(unseen) if unseen else ""
        if unseen:
            self.again = self._blind < _limit(code)
        else:
            self.again = any(self._worth_trying(entry) for entry in [*self._left.values(), *doubtful])
        times = max(worst, self._blind)
        self.pause = min(LONGEST_PAUSE, self.interval * 2 ** (times - 1)) if times else 0.0

    def result(self, dry: bool = False) -> dict[str, Any]:
        """Return what became of all.

        :param dry: nothing was done: say what would go instead.
        :returns: ``removed``, ``left``, ``kept`` and ``would`` as lists of dictionaries, ``lines`` the same for people;
            ``complete``, the IDs of the run's finished volumes that no instance has; ``trouble``.
        """
        kept = [_public(entry, why=entry.why) for entry in self._plan.kept]
        staying = {*self._left, *(entry["id"] for entry in kept)}
        lists: dict[str, list[dict[str, str]]] = {"removed": [], "left": [], "kept": kept, "would": []}
        if dry:
            lists["would"] = [_public(entry) for entry in self._plan.entries if entry.step != "watch"]
        else:
            lists["removed"] = [_public(entry) for name, entry in self._found.items() if name not in staying]
            lists["left"] = [
                _public(entry, why=self._errors.get(name) or _line(entry.why)) for name, entry in self._left.items()
            ]
        return {
            **lists,
            "complete": self._complete,
            "trouble": self.trouble,
            "lines": {
                "removed": [describe(entry, entry["action"]) for entry in lists["removed"]],
                "left": [describe(entry, entry["why"]) for entry in lists["left"]],
                "kept": [describe(entry, f"kept, since {entry['why']}") for entry in lists["kept"]],
                "would": [describe(entry, f"would be {entry['action']}") for entry in lists["would"]],
            },
        }
