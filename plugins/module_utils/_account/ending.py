# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end of a run: look at the account, terminate, detach and delete, and look again until nothing is left to do.

What is to go is decided in ``_account/leftovers.py``. EC2 is asked as rarely as possible, as its request rate is
limited for an account as a whole: while an instance is shutting down, one call a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    INSTANCE_ID,
    POLL_SECONDS,
    error_code,
    patiently,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import (
    ACTS,
    RUN_ID,
    Entry,
    Outcome,
    Plan,
    Progress,
    only_time,
    plan,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.volume import (
    describe_volume,
    live_attachments,
    wait_for,
)

LOOK_SECONDS = 20.0  # for which the calls of one look are tried again while EC2 is too busy for them
ACT_SECONDS = 15.0  # the same for a call that removes something; short, as after the next look it is tried again
UNKNOWN_SECONDS = 30.0  # for which EC2 may not know an instance that it has just launched
DETACH_SECONDS = 60.0
AGAIN_SECONDS = 15.0  # after which a termination that has shown no effect is asked for again
ALONE_SECONDS = 60.0  # for which instances that are shutting down are looked at alone
MOST_VALUES = 200  # in one filter
NOT_FOUND = "InvalidInstanceID.NotFound"
BLOCKED = "not terminated: a volume that is to outlive it could not be detached from it, and would be deleted with it"

Clock = Callable[[], float]
Sleep = Callable[[float], None]
Thing = Any  # an instance, a volume or a group, with names as Ansible writes them


def snake(thing: Any) -> Thing:
    """Return something that EC2 described with names as Ansible writes them, and its tags as a dictionary."""
    tags = boto3_tag_list_to_ansible_dict(thing.get("Tags") or [])
    return {**camel_dict_to_snake_dict({key: thing[key] for key in thing if key != "Tags"}), "tags": tags}


class Account:
    """What EC2 shows of a run (of all runs where ``run_id`` is empty), and the calls that remove it.

    :param client: a boto3 client of EC2.
    :param named: instances that are known to be the run's, in case their tag is not visible yet.
    """

    def __init__(self, client: Any, run_id: str, named: Collection[str], clock: Clock, sleep: Sleep) -> None:
        self.client, self.run_id, self.named = client, run_id, set(named)
        self.clock, self.sleep = clock, sleep
        self.filters = [
            {"Name": f"tag:{RUN_ID}", "Values": [run_id]} if run_id else {"Name": "tag-key", "Values": [RUN_ID]}
        ]

    def _patiently(self, call: Callable[[], Any], timeout: float, *passing: str) -> Any:
        return patiently(call, (*BUSY, *passing), timeout, self.clock, self.sleep)

    def _pages(self, operation: str, key: str, filters: Any) -> list[Any]:
        pages = self.client.get_paginator(operation).paginate(Filters=filters)
        return [item for page in pages for item in page[key]]

    def _instances(self, filters: Any) -> list[Thing]:
        reservations = self._pages("describe_instances", "Reservations", filters)
        return [snake(instance) for reservation in reservations for instance in reservation["Instances"]]

    def instances(self) -> list[Thing]:
        """Return the run's instances: those with its tag, and those that are named.

        :raises ValueError: one of them has no ID.
        """
        found = self._instances(self.filters)
        names = {instance.get("instance_id") for instance in found}
        hidden = sorted(self.named - names)
        if hidden:
            # Unlike a list of IDs, a filter does not fail for what EC2 does not know.
            found += self._instances([{"Name": "instance-id", "Values": hidden}])
        for instance in found:
            if instance.get("instance_id") in self.named:
                instance["tags"][RUN_ID] = self.run_id
        strange = [name for name in names if not INSTANCE_ID.fullmatch(name or "")]
        if strange:
            raise ValueError(f"EC2 named an instance without an ID ({strange[0]!r}); nothing was terminated.")
        return found

    def volumes(self) -> list[Thing]:
        return [snake(volume) for volume in self._pages("describe_volumes", "Volumes", self.filters)]

    def groups(self) -> list[Thing]:
        return [snake(group) for group in self._pages("describe_security_groups", "SecurityGroups", self.filters)]

    def users(self, groups: Collection[str]) -> list[Thing]:
        """Return the instances that use one of these security groups, also those that are not of this run."""
        names = sorted(groups)
        parts = [names[start : start + MOST_VALUES] for start in range(0, len(names), MOST_VALUES)]
        return [user for part in parts for user in self._instances([{"Name": "instance.group-id", "Values": part}])]

    # -- calls that change something; each takes an entry of the plan

    def detach(self, entry: Entry) -> None:
        """Detach a volume, and wait until it is free: until then it would still be deleted with its instance."""
        wanted = {"VolumeId": entry.id, "InstanceId": entry.instance_id}
        self._patiently(lambda: self.client.detach_volume(**wanted), ACT_SECONDS)
        wait_for(
            lambda seen: seen is None or not live_attachments(seen),
            f"waiting for it to be detached from {entry.instance_id}",
            DETACH_SECONDS,
            lambda: self._patiently(lambda: describe_volume(self.client, entry.id), ACT_SECONDS),
            self.clock,
            self.sleep,
        )

    def terminate(self, entry: Entry) -> None:
        """Ask for the termination of one instance, by its ID."""
        if not INSTANCE_ID.fullmatch(entry.id):
            raise ValueError("not terminated: that is not an instance's ID")
        timeout, passing = (UNKNOWN_SECONDS, (NOT_FOUND,)) if entry.id in self.named else (ACT_SECONDS, ())
        self._patiently(lambda: self.client.terminate_instances(InstanceIds=[entry.id]), timeout, *passing)

    def delete(self, entry: Entry) -> None:
        """Delete a volume or a security group."""
        if entry.kind == "volume":
            self._patiently(lambda: self.client.delete_volume(VolumeId=entry.id), ACT_SECONDS)
        else:
            self._patiently(lambda: self.client.delete_security_group(GroupId=entry.id), ACT_SECONDS)

    def act(self, entry: Entry) -> Outcome:
        """Do what an entry says. Errors are returned and not raised, so that the other entries are still done."""
        try:
            {"detach": self.detach, "terminate": self.terminate, "delete": self.delete}[entry.step](entry)
        except Exception as error:
            return Outcome(entry, str(error) or repr(error), error_code(error))
        return Outcome(entry)


class Look:
    """One look at the account: ``seen``, for ``plan``, and ``errors``, EC2's code and a text for what was not seen."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.deadline = account.clock() + LOOK_SECONDS
        self.seen: dict[str, Any] = {}
        self.errors: dict[str, tuple[str, str]] = {}

    def at(self, kind: str, call: Callable[[], Any], patient: bool = True) -> Any:
        """Look at one kind of things, and return them; None if that fails."""
        timeout = max(0.0, self.deadline - self.account.clock()) if patient else 0.0
        try:
            self.seen[kind] = patiently(call, BUSY, timeout, self.account.clock, self.account.sleep)
        except Exception as error:  # whatever it was, nothing is known then
            self.seen[kind] = None
            self.errors[kind] = (error_code(error), f"{kind}: {str(error) or repr(error)}")
        return self.seen[kind]

    def shows(self, instance_id: str) -> bool:
        """Return whether this instance was seen."""
        return instance_id in [instance["instance_id"] for instance in self.seen["instances"] or ()]


class Ending:
    """Ends one run, or all that are past their expiry.

    :param client: a boto3 client of EC2.
    :param run_id: the run; empty for all that are past their expiry.
    :param named: instances that are known to be the run's. They are terminated even if the account cannot be looked at.
    :param finished: volumes that are known to be complete, in case their tag does not say so yet.
    :param security_groups: whether there may be security groups to delete.
    :param dry: only look.
    """

    def __init__(
        self,
        client: Any,
        run_id: str,
        named: Collection[str] = (),
        finished: Collection[str] = (),
        security_groups: bool = True,
        dry: bool = False,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.account = Account(client, run_id, named, clock, sleep)
        self.run_id, self.finished, self.security_groups = run_id, finished, security_groups
        self.dry, self.clock, self.sleep = dry, clock, sleep
        self.asked: dict[str, float] = {}  # instances whose termination was accepted, and when
        self.refused: set[str] = set()  # security groups that EC2 would not delete
        self.looks = 0

    def run(self, looks: int, interval: float, timeout: float) -> Progress:
        """Remove until nothing is left, or what is left has been tried often enough.

        :param looks: how often to look at least before nothing counts as nothing: a call that was in flight when its
            caller died may still make an instance.
        :param interval: seconds between these looks, and before a first repetition of what has failed.
        :param timeout: seconds after which it does not look again.
        """
        deadline, progress = self.clock() + timeout, Progress(interval)
        while True:
            look = self._look(deadline)
            planned = self._plan(look)
            outcomes = [] if self.dry else self._act(look, planned)
            code, unseen = next(iter(look.errors.values()), ("", ""))
            progress.take(planned, outcomes, unseen, code)
            more = progress.again or (not unseen and self.looks < looks)
            if self.dry or not more or self.clock() >= deadline:
                return progress
            self.sleep(progress.pause or (POLL_SECONDS if progress.again else interval))

    def _scope(self) -> dict[str, Any]:
        lately = self.clock() - AGAIN_SECONDS
        asked = {name for name, moment in self.asked.items() if moment > lately}
        return {"run_id": self.run_id, "named": self.account.named, "asked": asked}

    def _look(self, deadline: float) -> Look:
        until = min(deadline, self.clock() + ALONE_SECONDS)
        # What is named must not wait for an EC2 that is too busy to be looked at.
        first = self.looks == 0 and bool(self.account.named)
        while True:
            look = Look(self.account)
            self.looks += 1
            instances = look.at("instances", self.account.instances, patient=not first)
            first = False
            if instances is None or self.dry or self.clock() >= until or not only_time(instances, **self._scope()):
                break
            self.sleep(POLL_SECONDS)
        seen = instances is not None
        look.at("volumes", self.account.volumes, patient=seen)
        if self.security_groups and seen:
            look.at("groups", self.account.groups)
        return look

    def _plan(self, look: Look) -> Plan:
        planned = plan(look.seen, **self._scope(), finished=self.finished)
        # EC2 refuses to delete a group that is in use. Who uses it has to be known only to say so.
        groups = {entry.id for entry in planned.entries if entry.kind == "security-group" and entry.step == "delete"}
        groups = groups if self.dry else groups & self.refused
        if groups:
            look.at("users", lambda: self.account.users(groups))
            planned = plan(look.seen, **self._scope(), finished=self.finished)
        return planned

    def _act(self, look: Look, planned: Plan) -> list[Outcome]:
        """Do what is planned, and take out of the plan what does not exist; return what became of each entry."""
        outcomes: list[Outcome] = []
        blocked: set[str] = set()
        for entry in sorted((e for e in planned.entries if e.step in ACTS), key=lambda e: ACTS.index(e.step)):
            if entry.step == "terminate" and entry.id in blocked:
                outcomes.append(Outcome(entry, BLOCKED))
                continue
            outcome = self.account.act(entry)
            if entry.step == "terminate" and not outcome.error:
                self.asked[entry.id] = self.clock()
            elif entry.kind == "security-group" and outcome.error:
                self.refused.add(entry.id)
            elif entry.blocks and outcome.error:
                blocked.add(entry.instance_id)
            elif outcome.code == NOT_FOUND and not look.shows(entry.id):
                # One that stays unknown is long gone; right after its launch it is unknown for a moment only.
                self.account.named.discard(entry.id)
                planned.entries.remove(entry)
                continue
            outcomes.append(outcome)
        return outcomes
