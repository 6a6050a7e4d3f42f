"""The end of a run: what EC2 is asked, in which order, how often, and for how long trouble is put up with."""

import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.ending import Ending
from ansible_collections.ec2_backup.ebs.plugins.modules import run_end

ONE, TWO = "i-00000001", "i-00000002"
PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
TAG = ("tag:ec2-backup:run-id", ["r1"])
LONG = ["RequestLimitExceeded"] * 1000


def error(code):
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


def tags(run_id="r1", expires=PAST, status=""):
    found = {"run-id": run_id, "expires": expires, "status": status}
    return [{"Key": f"ec2-backup:{key}", "Value": value} for key, value in found.items() if value]


def instance(name=ONE, state="running", mappings=(), groups=(), tagged=None):
    """An instance; a mapping is (volume, delete on termination)."""
    return {
        "InstanceId": name,
        "State": {"Name": state},
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [
            {"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeId": volume, "DeleteOnTermination": dies}}
            for letter, (volume, dies) in zip("fgh", mappings, strict=False)
        ],
        "SecurityGroups": [{"GroupId": group, "GroupName": "x"} for group in groups],
        "Tags": tags() if tagged is None else tagged,
    }


def volume(name="vol-1", on=(), status="writing", state=""):
    return {
        "VolumeId": name,
        "State": state or ("in-use" if on else "available"),
        "Attachments": [{"InstanceId": holder, "State": "attached", "Device": "/dev/sdf"} for holder in on],
        "Tags": tags(status=status),
    }


GROUP = {"GroupId": "sg-1", "GroupName": "ec2-backup-r1", "VpcId": "vpc-1", "Tags": tags()}


class Account:
    """EC2 in time that passes by sleeping only. An instance takes two seconds to shut down.

    :param failures: method of the client → EC2's codes, or exceptions, one for each call to come; None is no failure.
    :ivar calls: (method, what was asked for) of each call.
    """

    def __init__(self, *things, **failures):
        self.instances = {thing["InstanceId"]: copy.deepcopy(thing) for thing in things if "InstanceId" in thing}
        self.volumes = {thing["VolumeId"]: copy.deepcopy(thing) for thing in things if "VolumeId" in thing}
        self.groups = {thing["GroupId"]: thing for thing in things if "GroupId" in thing}
        self.failures: dict[str, list[Any]] = {name: list(codes) for name, codes in failures.items()}
        self.untagged: set[str] = set()  # instances that the filter by tag does not find yet
        self.gone_at: dict[str, float] = {}
        self.events: list[tuple[float, Any]] = []  # (time, what is called then)
        self.calls: list[tuple[Any, ...]] = []
        self.now = 0.0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.1)
        for name in [name for name, moment in self.gone_at.items() if moment <= self.now]:
            del self.gone_at[name]
            self.bury(self.instances[name])
        for event in [event for event in self.events if event[0] <= self.now]:
            self.events.remove(event)
            event[1]()

    def bury(self, instance):
        instance["State"]["Name"] = "terminated"
        for mapping in instance["BlockDeviceMappings"]:
            held = self.volumes.get(mapping["Ebs"]["VolumeId"])
            if held and mapping["Ebs"]["DeleteOnTermination"]:
                del self.volumes[held["VolumeId"]]
            elif held:
                held.update(State="available", Attachments=[])
        instance["BlockDeviceMappings"] = []

    def called(self, *call):
        self.calls.append(call)
        queue = self.failures.get(call[0])
        failure = queue.pop(0) if queue else None
        if isinstance(failure, Exception):
            raise failure
        if failure:
            raise error(failure)

    def methods(self):
        return [call[0] for call in self.calls]

    def count(self, method):
        return self.methods().count(method)

    # -- the client

    def get_paginator(self, operation):
        self.operation = operation
        return self

    def paginate(self, **wanted):
        (asked,) = wanted["Filters"]
        self.called(self.operation, asked["Name"], asked["Values"])
        name, values = asked["Name"], asked["Values"]

        def matches(thing):
            if name == "instance-id":
                return thing["InstanceId"] in values
            if name == "instance.group-id":
                return bool({group["GroupId"] for group in thing["SecurityGroups"]} & set(values))
            owners = [tag["Value"] for tag in thing["Tags"] if tag["Key"] == "ec2-backup:run-id"]
            # Filters know wildcards.
            return any(name == "tag-key" or owner.startswith(values[0]) for owner in owners)

        if self.operation == "describe_instances":
            hidden = self.untagged if name.startswith("tag") else set()
            found = [thing for key, thing in self.instances.items() if key not in hidden and matches(thing)]
            return [{"Reservations": [{"Instances": [copy.deepcopy(thing)]}]} for thing in found]
        kind, things = {
            "describe_volumes": ("Volumes", self.volumes),
            "describe_security_groups": ("SecurityGroups", self.groups),
        }[self.operation]
        return [{kind: [copy.deepcopy(thing) for thing in things.values() if matches(thing)]}]

    def describe_volumes(self, **wanted):
        self.called("describe_volumes", "volume-id", wanted["VolumeIds"])
        return {"Volumes": [copy.deepcopy(self.volumes[name]) for name in wanted["VolumeIds"]]}

    def terminate_instances(self, **wanted):
        (name,) = wanted["InstanceIds"]
        self.called("terminate_instances", name)
        if name not in self.instances:
            raise error("InvalidInstanceID.NotFound")
        if self.instances[name]["State"]["Name"] != "terminated":
            self.instances[name]["State"]["Name"] = "shutting-down"
            self.gone_at[name] = self.now + 2

    def detach_volume(self, **wanted):
        self.called("detach_volume", wanted["VolumeId"], wanted["InstanceId"])
        self.volumes[wanted["VolumeId"]].update(State="available", Attachments=[])
        holder = self.instances[wanted["InstanceId"]]
        holder["BlockDeviceMappings"] = [
            mapping for mapping in holder["BlockDeviceMappings"] if mapping["Ebs"]["VolumeId"] != wanted["VolumeId"]
        ]

    def delete_volume(self, **wanted):
        self.called("delete_volume", wanted["VolumeId"])
        del self.volumes[wanted["VolumeId"]]

    def delete_security_group(self, **wanted):
        self.called("delete_security_group", wanted["GroupId"])
        users = [thing for thing in self.instances.values() if thing["State"]["Name"] != "terminated"]
        if any(group["GroupId"] == wanted["GroupId"] for user in users for group in user["SecurityGroups"]):
            raise error("DependencyViolation")
        del self.groups[wanted["GroupId"]]

    # -- the test's own

    def end(self, *named, run_id="r1", looks=1, interval=2, timeout=600, **more):
        """End a run; return what became of it."""
        ending = Ending(self, run_id, named, clock=self.clock, sleep=self.sleep, **more)
        return ending.run(looks, interval, timeout).result(more.get("dry", False))


class Stubborn(Account):
    """Takes the termination, and nothing happens."""

    def terminate_instances(self, **wanted):
        self.called("terminate_instances", *wanted["InstanceIds"])


def ids(entries):
    return [entry["id"] for entry in entries]


def assert_clean(result):
    assert (result["left"], result["trouble"]) == ([], "")


# -- what is asked


def test_ec2_is_asked_for_what_carries_the_run_s_id_and_nothing_else():
    account = Account()
    assert_clean(account.end())
    kinds = ("describe_instances", "describe_volumes", "describe_security_groups")
    assert account.calls == [(kind, *TAG) for kind in kinds]
    account = Account()
    account.end(run_id="")
    assert account.calls == [(kind, "tag-key", ["ec2-backup:run-id"]) for kind in kinds]


def test_the_ordinary_end_of_a_run_takes_a_call_a_second_and_three_more():
    account = Account(instance(state="shutting-down", groups=["sg-1"]), GROUP, volume(status="complete"))
    account.gone_at[ONE] = 3
    result = account.end(ONE)
    assert_clean(result)
    assert account.calls == [
        *[("describe_instances", *TAG)] * 4,
        ("describe_volumes", *TAG),
        ("describe_security_groups", *TAG),
        ("delete_security_group", "sg-1"),
    ]
    assert (account.now, ids(result["removed"]), result["complete"]) == (3, ["sg-1"], ["vol-1"])


def test_a_run_without_groups_of_its_own_is_not_looked_at_for_any():
    account = Account(instance(), GROUP)
    assert_clean(account.end(security_groups=False))
    assert (account.count("describe_security_groups"), list(account.groups)) == (0, ["sg-1"])


def test_a_dry_run_looks_once_and_changes_nothing():
    account = Account(instance(groups=["sg-1"]), volume(), GROUP, {**GROUP, "GroupId": "sg-2"})
    account.instances[TWO] = instance(TWO, groups=["sg-2"], tagged=[])
    result = account.end(looks=2, dry=True)
    assert ids(result["would"]) == [ONE, "vol-1", "sg-1"]
    assert (ids(result["kept"]), result["removed"], result["left"]) == (["sg-2"], [], [])
    assert {method.partition("_")[0] for method in account.methods()} == {"describe"}
    assert (account.count("describe_volumes"), account.now) == (1, 0)


def test_one_that_is_going_is_looked_at_once_in_a_dry_run_too():
    account = Account(instance(state="shutting-down"))
    assert account.end(dry=True)["would"] == []
    assert account.count("describe_instances") == 1


# -- instances


@pytest.mark.parametrize("state", ["pending", "running", "stopping", "stopped"])
def test_what_carries_the_run_s_tag_is_terminated_once_in_whatever_state_it_is(state):
    account = Account(instance(state=state))
    result = account.end()
    assert_clean(result)
    assert (ids(result["removed"]), account.count("terminate_instances")) == ([ONE], 1)
    assert account.instances[ONE]["State"]["Name"] == "terminated"


def test_what_is_known_is_terminated_before_its_tag_is_to_be_seen():
    account = Account(instance(state="pending", tagged=[]), instance(TWO))
    result = account.end(ONE)
    assert_clean(result)
    assert sorted(ids(result["removed"])) == [ONE, TWO]


def test_one_that_no_look_shows_is_terminated_and_waited_for(monkeypatch):
    account = Account(instance(state="pending"))
    shown, account.instances = account.instances, {}
    monkeypatch.setattr(account, "terminate_instances", lambda InstanceIds: account.called("terminate_instances"))
    account.events.append((5, lambda: account.instances.update(shown)))
    account.events.append((8, lambda: account.bury(account.instances[ONE])))
    result = account.end(ONE)
    assert_clean(result)
    assert (ids(result["removed"]), account.count("terminate_instances"), account.now) == ([ONE], 1, 8)


def test_another_run_s_instance_is_left_alone_even_if_a_wildcard_finds_it():
    account = Account(instance(tagged=tags("r12")))
    assert_clean(account.end())
    assert account.count("terminate_instances") == 0


def test_one_that_is_going_already_is_waited_for():
    account = Account(instance(state="shutting-down"))
    account.gone_at[ONE] = 2
    assert_clean(account.end())
    assert (account.count("terminate_instances"), account.now) == (0, 2)


def test_one_that_ec2_does_not_know_for_a_moment_is_asked_for_again():
    account = Account(instance(tagged=[]), terminate_instances=["InvalidInstanceID.NotFound"] * 3)
    account.untagged.add(ONE)
    shown, account.instances = account.instances, {}
    account.events.append((4, lambda: account.instances.update(shown)))
    result = account.end(ONE)
    assert_clean(result)
    assert (ids(result["removed"]), account.instances[ONE]["State"]["Name"]) == ([ONE], "terminated")


def test_one_that_stays_unknown_is_gone_and_was_not_removed():
    account = Account()
    result = account.end(ONE)
    assert_clean(result)
    assert result["removed"] == []
    assert 30 <= account.now < 33


def test_a_termination_whose_effect_does_not_show_is_asked_for_again_and_one_that_never_ends_is_left():
    account = Stubborn(instance())
    result = account.end(timeout=40)
    assert (ids(result["left"]), result["trouble"]) == ([ONE], "")
    assert result["lines"]["left"] == [f"instance {ONE} of run r1: it is running"]
    assert account.count("terminate_instances") == 3
    assert 40 <= account.now < 42


def test_an_instance_that_appears_late_is_seen():
    account = Account()
    account.events.append((2, lambda: account.instances.update({ONE: instance()})))
    result = account.end(looks=2)
    assert_clean(result)
    assert ids(result["removed"]) == [ONE]


def test_an_instance_that_appears_while_another_is_going_is_terminated_at_once():
    account = Account(instance(state="shutting-down"))
    account.gone_at[ONE] = 30
    account.events.append((2, lambda: account.instances.update({TWO: instance(TWO)})))
    assert_clean(account.end())
    assert account.methods()[:6].count("terminate_instances") == 1
    assert account.now == 30


def test_one_that_hangs_while_it_shuts_down_does_not_keep_the_rest_for_more_than_a_minute():
    account = Account(instance(state="shutting-down"), volume())
    result = account.end(timeout=90)
    assert (ids(result["left"]), ids(result["removed"])) == ([ONE], ["vol-1"])
    assert [ONE in line for line in result["lines"]["left"]] == [True]


@pytest.mark.parametrize("name", ["", "i-", "*", "vol-1"])
def test_an_instance_without_an_id_stops_everything(name):
    account = Account(instance(), instance(name), volume())
    result = account.end()
    assert {method.partition("_")[0] for method in account.methods()} == {"describe"}
    assert "nothing was terminated" in result["trouble"]


# -- how often, how long


def test_where_there_is_nothing_it_looks_as_often_as_asked():
    account = Account()
    assert_clean(account.end(looks=3, interval=7))
    assert (account.count("describe_instances"), account.count("describe_security_groups"), account.now) == (3, 3, 14)


def test_what_was_deleted_at_the_first_look_does_not_make_the_second_one_needless():
    account = Account(GROUP)
    account.events.append((2, lambda: account.instances.update({ONE: instance()})))
    result = account.end(looks=2)
    assert ids(result["removed"]) == ["sg-1", ONE]


def test_what_is_being_made_is_looked_at_each_second_until_it_can_go():
    account = Account(volume(state="creating"))
    account.events.append((3, lambda: account.volumes["vol-1"].update(State="available")))
    result = account.end()
    assert_clean(result)
    assert (ids(result["removed"]), account.now) == (["vol-1"], 3)
    result = Account(volume(state="creating")).end(timeout=5)
    assert result["lines"]["left"] == ["volume vol-1 of run r1: it is creating"]


def test_nothing_is_begun_after_the_time_is_up():
    account = Account(instance(), volume(), delete_volume=["InternalError"] * 1000)
    result = account.end(timeout=0)
    assert sorted(ids(result["left"])) == [ONE, "vol-1"]
    assert account.count("describe_instances") == 1


# -- volumes and groups


def test_what_must_outlive_an_instance_is_detached_before_it_is_terminated():
    account = Account(
        instance(mappings=[("vol-1", True), ("vol-2", True), ("vol-9", False)]),
        volume("vol-1", [ONE], "complete"),
        volume("vol-2", [ONE]),
        {**volume("vol-9", [ONE]), "Tags": []},
        volume("vol-3"),
        GROUP,
    )
    result = account.end()
    assert_clean(result)
    changes = [call for call in account.calls if not call[0].startswith("describe")]
    assert changes == [
        ("detach_volume", "vol-1", ONE),
        ("terminate_instances", ONE),
        ("delete_volume", "vol-3"),
        ("delete_security_group", "sg-1"),
    ]
    assert set(account.volumes) == {"vol-1", "vol-9"}
    assert {entry["id"]: entry["action"] for entry in result["removed"]} == {
        ONE: "terminated",
        "vol-1": "detached",
        "vol-2": "deleted",
        "vol-3": "deleted",
        "vol-9": "detached",
        "sg-1": "deleted",
    }
    assert result["complete"] == ["vol-1"]


def test_a_volume_that_was_just_completed_is_not_deleted_while_its_tag_is_not_to_be_seen():
    account = Account(instance(state="terminated"), volume(status="writing"))
    result = account.end(ONE, finished=["vol-1"])
    assert_clean(result)
    assert (list(account.volumes), result["removed"], result["complete"]) == (["vol-1"], [], ["vol-1"])


def test_a_detachment_is_waited_for_since_until_then_the_volume_dies_with_its_instance(monkeypatch):
    account = Account(instance(mappings=[("vol-1", True)]), volume(on=[ONE], status="complete"))
    real = account.detach_volume
    wanted = {"VolumeId": "vol-1", "InstanceId": ONE}

    def slowly(**asked):
        account.called("detach_volume", *asked.values())
        account.events.append((account.now + 3, lambda: real(**wanted)))

    monkeypatch.setattr(account, "detach_volume", slowly)
    assert_clean(account.end())
    assert list(account.volumes) == ["vol-1"]
    assert account.methods().index("terminate_instances") > account.methods().index("detach_volume")


def test_an_instance_that_would_take_a_volume_along_stays_and_the_rest_goes():
    account = Account(
        instance(mappings=[("vol-1", True)]),
        volume(on=[ONE], status="complete"),
        volume("vol-2"),
        detach_volume=["UnauthorizedOperation"] * 9,
    )
    result = account.end()
    assert account.count("terminate_instances") == 0
    assert ids(result["left"]) == [ONE, "vol-1"]
    assert "could not be detached" in result["left"][0]["why"]
    assert "UnauthorizedOperation" in result["left"][1]["why"]
    assert ids(result["removed"]) == ["vol-2"]


def test_a_failure_is_told_in_ec2_s_words_and_does_not_keep_the_others():
    account = Account(volume(), GROUP, delete_volume=["UnauthorizedOperation"])
    result = account.end()
    assert (ids(result["removed"]), ids(result["left"])) == (["sg-1"], ["vol-1"])
    assert "UnauthorizedOperation" in result["left"][0]["why"]


def test_what_somebody_else_removed_meanwhile_is_done():
    account = Account(volume(), delete_volume=["InvalidVolume.NotFound"])
    account.events.append((1, account.volumes.clear))
    result = account.end()
    assert_clean(result)
    assert ids(result["removed"]) == ["vol-1"]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyError("x"), ConnectionClosedError(endpoint_url="x")]
)
def test_a_breakdown_of_whatever_kind_is_a_failure_with_that_thing_alone(failure):
    account = Account(volume(), GROUP, delete_volume=[failure] * 3)
    result = account.end()
    assert (ids(result["removed"]), ids(result["left"])) == (["sg-1"], ["vol-1"])
    assert result["left"][0]["why"]


def test_a_group_is_deleted_as_soon_as_ec2_lets_go_of_it():
    account = Account(GROUP, delete_security_group=["DependencyViolation"] * 3)
    result = account.end(interval=1)
    assert_clean(result)
    assert ids(result["removed"]) == ["sg-1"]


def test_a_group_that_somebody_else_s_instance_uses_is_kept_and_only_then_is_asked_who():
    account = Account(instance(TWO, groups=["sg-1"], tagged=[]), GROUP)
    result = account.end()
    assert_clean(result)
    assert ("describe_instances", "instance.group-id", ["sg-1"]) in account.calls
    assert result["lines"]["kept"] == [f"security group sg-1 of run r1: kept, since {TWO} uses it"]
    assert (list(account.groups), account.count("delete_security_group")) == (["sg-1"], 1)
    account = Account(GROUP)
    account.end()
    assert [call[1] for call in account.calls if call[0] == "describe_instances"] == [TAG[0]]


# -- trouble


def test_a_busy_moment_is_put_up_with():
    account = Account(
        instance(),
        volume(),
        GROUP,
        describe_instances=["InternalError"] * 3,
        terminate_instances=["RequestLimitExceeded"] * 3,
        delete_security_group=["Unavailable"],
    )
    assert_clean(account.end(ONE))


@pytest.mark.parametrize("failure", ["UnauthorizedOperation", "RequestLimitExceeded", "AuthFailure"])
def test_where_the_account_cannot_be_looked_at_what_is_known_is_terminated_at_once(monkeypatch, failure):
    account = Account(instance(), describe_instances=[failure] * 1000, describe_volumes=[failure] * 1000)
    moments = []
    real = account.terminate_instances

    def terminate(**wanted):
        moments.append(account.now)
        real(**wanted)

    monkeypatch.setattr(account, "terminate_instances", terminate)
    result = account.end(ONE)
    assert moments[0] == 0
    assert (ids(result["left"]), ids(result["removed"])) == ([ONE], [])
    assert failure in result["trouble"]
    assert account.now < 80


def test_a_look_that_fails_in_part_is_told_and_proves_nothing():
    account = Account(instance(), volume(), describe_volumes=["UnauthorizedOperation"])
    result = account.end()
    assert account.count("terminate_instances") == 0
    assert (ids(result["left"]), result["complete"]) == ([ONE], [])
    assert result["trouble"].startswith("volumes: ")
    assert "UnauthorizedOperation" in result["trouble"]


def test_a_named_instance_is_terminated_even_if_the_volumes_cannot_be_looked_at():
    account = Account(instance(), instance(TWO), describe_volumes=["UnauthorizedOperation"])
    result = account.end(ONE)
    assert [call for call in account.calls if call[0] == "terminate_instances"] == [("terminate_instances", ONE)]
    assert (sorted(ids(result["left"])), bool(result["trouble"])) == ([ONE, TWO], True)


def test_a_look_that_failed_is_repeated_and_what_it_shows_then_goes():
    account = Account(instance(), describe_instances=[ConnectionClosedError(endpoint_url="x")] * 2)
    result = account.end()
    assert_clean(result)
    assert ids(result["removed"]) == [ONE]


def test_a_busy_ec2_is_put_up_with_for_seconds_in_all_of_a_look():
    account = Account(describe_instances=LONG, describe_volumes=LONG)
    result = account.end(timeout=0)
    assert result["trouble"].startswith("instances: ")
    assert 20 <= account.now < 22


def test_trouble_without_end_is_given_up_in_bounded_time():
    account = Account(instance(), describe_instances=LONG, describe_volumes=LONG, terminate_instances=LONG)
    result = account.end(ONE)
    assert ids(result["left"]) == [ONE]
    assert "RequestLimitExceeded" in result["trouble"]
    assert account.now < 150


def test_a_termination_that_is_denied_names_what_is_left():
    account = Account(instance(), terminate_instances=["UnauthorizedOperation"])
    result = account.end()
    assert (ids(result["left"]), result["trouble"], account.now) == ([ONE], "", 0)
    assert "UnauthorizedOperation" in result["lines"]["left"][0]


def test_expired_things_of_every_run_go_and_those_of_running_ones_stay():
    account = Account(instance(), instance(TWO, tagged=tags("r2", FUTURE)), volume())
    result = account.end(run_id="")
    assert_clean(result)
    assert ids(result["removed"]) == [ONE, "vol-1"]
    assert account.instances[TWO]["State"]["Name"] == "running"


# -- parameters


PARAMS = {"run_id": "r1", "instance_ids": [ONE], "looks": 1, "interval": 1, "timeout": 1}


def test_good_parameters_are_no_mistake():
    assert run_end.mistake(PARAMS) == ""
    assert run_end.mistake({**PARAMS, "run_id": "", "instance_ids": []}) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance_ids": [""]}, "'' in instance_ids is not"),
        ({"instance_ids": [ONE, "*"]}, "'\\*' in instance_ids is not"),
        ({"instance_ids": ["vol-00000001"]}, "is not what an instance's ID looks like"),
        ({"run_id": ""}, "instance_ids needs the run_id"),
        ({"looks": -1}, "looks must not be negative"),
        ({"interval": -1}, "interval must not be negative"),
        ({"timeout": -1}, "timeout must not be negative"),
    ],
)
def test_a_mistake_in_the_parameters_is_named(changes, message):
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(run_end.mistake({**PARAMS, **changes}))
