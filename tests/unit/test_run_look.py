"""The cleanup's look and its removals: what they ask EC2, when they look again, and what becomes of errors."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from ansible_collections.ec2_backup.ebs.plugins.modules import run_look, run_remove

TAGS = [{"Key": "ec2-backup:run-id", "Value": "r1"}, {"Key": "ec2-backup:expires", "Value": "2001-01-01T00:00:00Z"}]
PARAMS = {"run_id": "r1", "looks": 2, "interval": 7, "pause": 3, "timeout": 60}
NOTHING: tuple[list[Any], ...] = ([], [], [])


def error(code):
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


def instance(state="running", groups=(), tags=TAGS):
    return {
        "InstanceId": "i-1",
        "State": {"Name": state},
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeId": "vol-1", "DeleteOnTermination": True}},
        ],
        "SecurityGroups": [{"GroupId": group, "GroupName": "x"} for group in groups],
        "Tags": tags,
    }


def volume(on=(), status="writing"):
    return {
        "VolumeId": "vol-1",
        "State": "in-use" if on else "available",
        "Attachments": [{"InstanceId": name, "State": "attached"} for name in on],
        "Tags": [*TAGS, {"Key": "ec2-backup:status", "Value": status}],
    }


GROUP = {"GroupId": "sg-1", "GroupName": "ec2-backup-r1", "VpcId": "vpc-1", "Tags": TAGS}


class Account:
    """EC2 in time that passes by sleeping only: (instances, volumes, groups) a look, the last for good, or an error."""

    def __init__(self, *looks, users=(), **errors):
        self.looks, self.users, self.errors = list(looks), list(users), errors
        self.now, self.asked = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def get_paginator(self, operation):
        self.operation = operation
        return self

    def paginate(self, **wanted):
        (asked,) = wanted["Filters"]
        kind = self.operation.removeprefix("describe_")
        self.asked.append((kind, asked["Name"], asked["Values"]))
        if kind in self.errors:
            raise self.errors[kind]
        if asked["Name"] == "instance.group-id":
            return [{"Reservations": [{"Instances": self.users}]}]
        instances, volumes, groups = self.looks[0]
        if kind == "security_groups" and len(self.looks) > 1:
            self.looks.pop(0)
        pages = {"instances": {"Reservations": [{"Instances": instances}]}, "volumes": {"Volumes": volumes}}
        return [pages.get(kind, {"SecurityGroups": groups})]

    def watch(self, **changes):
        return run_look.watch(self, {**PARAMS, **changes}, self.clock, self.sleep)


def ids(entries):
    return [(entry["id"], entry["step"]) for entry in entries]


def test_ec2_is_asked_for_what_carries_the_run_s_id_and_nothing_else():
    account = Account(NOTHING)
    account.watch(looks=1)
    tag = ("tag:ec2-backup:run-id", ["r1"])
    assert account.asked == [("instances", *tag), ("volumes", *tag), ("security_groups", *tag)]
    account = Account(NOTHING)
    account.watch(looks=1, run_id="")
    assert {asked[1:] for asked in [(kind, name, *values) for kind, name, values in account.asked]} == {
        ("tag-key", "ec2-backup:run-id")
    }


def test_where_there_is_nothing_it_looks_as_often_as_asked():
    account = Account(NOTHING)
    found = account.watch()
    assert (found["looks"], found["entries"], found["errors"], account.now) == (2, [], {}, 3 + 7)


def test_where_there_is_something_to_do_it_looks_once():
    found = Account(([instance()], [volume(["i-1"])], [GROUP])).watch()
    assert found["looks"] == 1
    assert ids(found["entries"]) == [("i-1", "terminate"), ("vol-1", "follow"), ("sg-1", "delete")]


def test_what_is_on_its_way_out_is_followed_each_second_until_it_is_gone_or_the_time_is_up():
    going: tuple[list[Any], ...] = ([instance("shutting-down")], [volume(["i-1"])], [])
    account = Account(going, going, going, ([instance("terminated")], [], []))
    found = account.watch(pause=0)
    assert (found["looks"], found["entries"], account.now) == (4, [], 3)
    account = Account(going)
    assert ids(account.watch(pause=0, timeout=5)["entries"]) == [("i-1", "watch"), ("vol-1", "follow")]
    assert account.now == 5
    assert Account(going).watch(timeout=0)["looks"] == 1


def test_an_instance_that_appears_late_is_seen():
    found = Account(NOTHING, ([instance()], [], [])).watch()
    assert found["looks"] == 2
    assert ("i-1", "terminate") in ids(found["entries"])


def test_a_group_that_somebody_else_s_instance_uses_is_kept():
    account = Account(([], [], [GROUP]), users=[instance(groups=["sg-1"], tags=[])])
    found = account.watch(looks=1)
    assert account.asked[-1] == ("instances", "instance.group-id", ["sg-1"])
    assert (found["entries"], [entry["why"] for entry in found["kept"]]) == ([], ["i-1 uses it"])


def test_the_run_s_finished_volume_is_told():
    assert Account(([], [volume(status="complete")], [])).watch()["complete"] == ["vol-1"]


def test_a_look_that_fails_is_told_and_shows_nothing_and_the_others_count():
    found = Account(([instance()], [volume()], []), volumes=error("UnauthorizedOperation")).watch()
    assert ids(found["entries"]) == [("i-1", "follow")]
    assert found["complete"] is None
    assert found["errors"]["volumes"]["code"] == "UnauthorizedOperation"
    found = Account(([instance()], [volume()], []), instances=ConnectionClosedError(endpoint_url="x")).watch()
    assert (found["entries"], found["looks"], list(found["errors"])) == ([], 1, ["instances"])


def test_a_busy_ec2_is_put_up_with_for_seconds_in_all_of_a_look():
    account = Account(NOTHING, instances=error("RequestLimitExceeded"), volumes=error("RequestLimitExceeded"))
    found = account.watch(pause=0, timeout=600)
    assert list(found["errors"]) == ["instances", "volumes"]
    assert 20 <= account.now < 21


class Removing:
    """EC2 that does as it is told, but for the calls that are to fail."""

    def __init__(self, **errors):
        self.errors, self.done = errors, []

    def __getattr__(self, call):
        def act(**wanted):
            if call in self.errors:
                raise error(self.errors[call])
            self.done.append((call, *wanted.values()))
            return {"Volumes": [{"VolumeId": "vol-1", "State": "available", "Attachments": []}]}

        return act


ENTRIES = [
    {"kind": "security-group", "id": "sg-1", "step": "delete"},
    {"kind": "volume", "id": "vol-2", "step": "delete"},
    {"kind": "instance", "id": "i-00000001", "step": "terminate"},
    {"kind": "volume", "id": "vol-1", "step": "detach", "instance_id": "i-00000001", "blocks": True},
    {"kind": "volume", "id": "vol-3", "step": "follow"},
]


def failures(outcomes):
    return {outcome["id"]: outcome["code"] for outcome in outcomes if outcome["error"]}


def test_what_must_outlive_an_instance_is_detached_first_and_what_is_to_be_waited_for_is_not_touched():
    account = Removing()
    assert failures(run_remove.remove(account, ENTRIES)) == {}
    assert account.done == [
        ("detach_volume", "vol-1", "i-00000001"),
        ("describe_volumes", ["vol-1"]),
        ("terminate_instances", ["i-00000001"]),
        ("delete_security_group", "sg-1"),
        ("delete_volume", "vol-2"),
    ]


def test_an_instance_that_would_take_a_volume_along_stays_and_the_rest_goes():
    account = Removing(detach_volume="UnauthorizedOperation")
    outcomes = run_remove.remove(account, ENTRIES)
    assert failures(outcomes) == {"vol-1": "UnauthorizedOperation", "i-00000001": ""}
    assert [done[0] for done in account.done] == ["delete_security_group", "delete_volume"]


def test_a_failure_keeps_ec2_s_code_and_does_not_keep_the_others():
    outcomes = run_remove.remove(Removing(delete_volume="VolumeInUse"), ENTRIES)
    assert failures(outcomes) == {"vol-2": "VolumeInUse"}


@pytest.mark.parametrize("name", ["", "i-", "*", "vol-1"])
def test_nothing_but_an_instance_s_id_is_terminated(name):
    account = Removing()
    outcomes = run_remove.remove(account, [{"kind": "instance", "id": name, "step": "terminate"}])
    assert (account.done, list(failures(outcomes))) == ([], [name])
