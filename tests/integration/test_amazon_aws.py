"""Why modules of ours call AWS although amazon.aws has modules for it: what both do in the lab.

docs/amazon-aws.md has a row for each of our modules, with the tests here that show the reason. About time the tests
assert only that amazon.aws sleeps for as long as its source says.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.amazon.aws.plugins.module_utils import ec2 as amazon
from botocore.exceptions import ClientError

from tests.integration.conftest import QUICK, Lab

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
NOBODYS = "i-0123456789abcdef0"
RUN = "20261122t184500z-1f2e3d4c"
POLL = 14.0  # seconds: the waiters of amazon.aws sleep for 15 between two polls

Answer = dict[str, Any]


def play(lab: Lab, path: Path, *tasks: Answer) -> list[Answer]:
    """Run tasks on the controller, all of them even if one fails; return what each of them returned."""
    written = [{**task, "register": f"answer{number}", "ignore_errors": True} for number, task in enumerate(tasks)]
    answers = ", ".join(f"answer{number}" for number in range(len(tasks)))
    keep = {"ansible.builtin.copy": {"dest": str(path / "answers"), "content": f"{{{{ [{answers}] | to_json }}}}"}}
    (path / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [*written, keep]}])
    )
    done = lab.run("ansible-playbook", path / "play.yml")
    assert done.rc == 0, done.stdout + done.stderr
    answered: list[Answer] = json.loads((path / "answers").read_text())
    return answered


def image(lab: Lab) -> str:
    """The image of Amazon Linux."""
    return str(lab.api("get_parameter", service="ssm", Name=IMAGE)["Parameter"]["Value"])


def launch(lab: Lab, **tags: str) -> str:
    """Launch an instance in us-east-1a with a volume at /dev/sdf; return its ID."""
    wanted: dict[str, Any] = {
        "ImageId": image(lab),
        "InstanceType": "t3.nano",
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}],
    }
    if tags:
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        wanted["TagSpecifications"] = [{"ResourceType": "instance", "Tags": named}]
    return str(lab.api("run_instances", **wanted)["Instances"][0]["InstanceId"])


def launching(lab: Lab, **tags: str) -> Answer:
    """The options with which amazon.aws.ec2_instance launches an instance, and does not wait."""
    return {
        "image_id": image(lab),
        "instance_type": "t3.nano",
        "availability_zone": "us-east-1a",
        "count": 1,
        "filters": {},
        "tags": tags,
        "wait": False,
    }


def found(lab: Lab, instance: str) -> Any:
    """An instance, as EC2 describes it."""
    return next(seen for seen in lab.instances() if seen["InstanceId"] == instance)


def wait_state(lab: Lab, instance: str, state: str) -> None:
    """Wait until an instance is in a state."""
    while found(lab, instance)["State"]["Name"] != state:
        pass


def volume_at(lab: Lab, instance: str, device: str) -> str:
    """The volume that an instance has under a device name."""
    (volume,) = [
        mapping["Ebs"]["VolumeId"]
        for mapping in found(lab, instance)["BlockDeviceMappings"]
        if mapping["DeviceName"] == device
    ]
    return str(volume)


def calls_of(lab: Lab, run: Callable[[], object]) -> list[Any]:
    """The API calls that something makes."""
    log = lab.state / "calls.jsonl"
    before = len(log.read_text().splitlines())
    run()
    return [json.loads(line) for line in log.read_text().splitlines()[before:]]


def looks(lab: Lab, instance: str) -> list[Any]:
    """The calls that looked at an instance by its ID."""
    return [call for call in lab.calls("DescribeInstances") if call["parameters"].get("InstanceId.1") == instance]


def longest_pause(calls: list[Any]) -> float:
    """The longest time between the beginnings of two calls that follow each other, in seconds."""
    times = [call["time"] for call in calls]
    return float(max(later - earlier for earlier, later in itertools.pairwise(times)))


@pytest.fixture
def free(make_lab: Callable[..., Lab]) -> Callable[..., Lab]:
    """Return a function that starts a lab with the settings it is given: quick otherwise, and without a policy."""

    def make(**settings: str) -> Lab:
        lab = make_lab(**{**QUICK, "EC2_LAB_POLICY": "", **settings})
        lab.api("describe_regions")  # the log of the calls exists then
        return lab

    return make


# ---- instance_wait


@pytest.mark.heavy
def test_ec2_instance_waits_in_steps_of_15_seconds_and_instance_wait_looks_each_second(free, tmp_path):
    lab = free(EC2_LAB_PENDING="14")
    launched, waited = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_instance": {**launching(lab), "state": "running", "wait": True}},
        {"amazon.aws.ec2_instance": launching(lab)},
        {"ec2_backup.ebs.instance_wait": {"instance_id": "{{ answer1.instance_ids[0] }}", "zone": "us-east-1a"}},
    )[::2]
    assert longest_pause(looks(lab, launched["instance_ids"][0])) > POLL
    (instance,) = {found["InstanceId"] for found in lab.instances()} - set(launched["instance_ids"])
    assert waited["address"] == found(lab, instance)["PublicIpAddress"]
    assert len(looks(lab, instance)) > 2
    assert longest_pause(looks(lab, instance)) < POLL


def test_ec2_instance_fails_for_an_instance_that_is_pending_and_gives_no_reason(free, tmp_path):
    lab = free(EC2_LAB_PENDING="600")
    (theirs,) = play(lab, tmp_path, {"amazon.aws.ec2_instance": {"instance_ids": [launch(lab)], "state": "running"}})
    assert (theirs["failed"], theirs["msg"]) == (True, "Unable to start instances: ")


@pytest.mark.heavy
def test_ec2_instance_info_takes_a_module_process_for_each_look(free, tmp_path):
    """That is about a second of processor time each. instance_wait takes one process for all looks."""
    lab = free(EC2_LAB_PENDING="14")
    _, theirs = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_instance": launching(lab)},
        {
            "amazon.aws.ec2_instance_info": {"instance_ids": "{{ answer0.instance_ids }}"},
            "until": "answer1.instances[0].state.name == 'running'",
            "retries": 100,
            "delay": 1,
        },
    )
    instance = theirs["instances"][0]["instance_id"]
    assert theirs["attempts"] > 1
    # One look is of the launch.
    assert theirs["attempts"] == len(looks(lab, instance)) - 1


# ---- snapshot_find


@pytest.mark.heavy
def test_ec2_snapshot_info_breaks_down_over_an_id_that_is_not_there_and_snapshot_find_says_so(free, tmp_path):
    lab = free()
    missing = "snap-0123456789abcdef0"
    theirs, ours = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_snapshot_info": {"snapshot_ids": [missing]}},
        {"ec2_backup.ebs.snapshot_find": {"snapshot_id": missing}},
    )
    assert "'list' object has no attribute 'get'" in theirs["msg"]
    assert ours["msg"].startswith(f"Snapshot {missing} was not found in us-east-1: ")


def test_ec2_snapshot_info_fails_where_ec2_does_not_tell_with_whom_a_snapshot_is_shared_and_snapshot_find_finds_it(
    free, tmp_path
):
    lab = free()
    snapshot = lab.api("create_snapshot", VolumeId=lab.make_volume())["SnapshotId"]
    lab.break_api({"action": "DescribeSnapshotAttribute", "always": True, "code": "AuthFailure"})
    theirs, ours = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_snapshot_info": {"filters": {"snapshot-id": snapshot}}},
        {"ec2_backup.ebs.snapshot_find": {"snapshot_id": snapshot}},
    )
    assert theirs["msg"] == "Failed to describe snapshot attribute: Failed to describe snapshot attribute"
    assert "error" not in theirs
    assert (ours["snapshot"]["state"], ours["snapshot"]["volume_size"]) == ("completed", 1)


# ---- volume_attachment


def test_ec2_vol_returns_another_volume_where_the_device_name_is_taken_and_volume_attachment_fails(free, tmp_path):
    lab = free()
    instance, volume = launch(lab), lab.make_volume()
    wait_state(lab, instance, "running")
    theirs, ours = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_vol": {"id": volume, "instance": instance, "device_name": "/dev/sdf"}},
        {"ec2_backup.ebs.volume_attachment": {"volume_id": volume, "instance_id": instance, "device": "/dev/sdf"}},
    )
    assert (theirs["failed"], theirs["volume_id"]) == (False, volume_at(lab, instance, "/dev/sdf"))
    assert theirs["volume_id"] != volume
    assert (ours["failed"], ours["error"]["code"]) == (True, "InvalidParameterValue")
    assert lab.volumes()[volume]["State"] == "available"


def test_ec2_vol_loses_the_reason_for_which_ec2_refuses_and_volume_attachment_keeps_it(free, tmp_path):
    lab = free()
    instance, volume = launch(lab), lab.make_volume()
    wait_state(lab, instance, "running")
    lab.break_api({"action": "AttachVolume", "always": True, "code": "VolumeTypeNotAvailableInZone"})
    theirs, ours = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_vol": {"id": volume, "instance": instance, "device_name": "/dev/sdg"}},
        {"ec2_backup.ebs.volume_attachment": {"volume_id": volume, "instance_id": instance, "device": "/dev/sdg"}},
    )
    assert theirs["msg"] == "Error while attaching EBS volume: Failed to attach volume"
    assert "error" not in theirs
    assert "VolumeTypeNotAvailableInZone" in ours["msg"]
    assert ours["error"]["code"] == "VolumeTypeNotAvailableInZone"


@pytest.mark.heavy
def test_ec2_vol_returns_before_the_volume_is_attached_and_volume_attachment_when_it_is(free, tmp_path):
    lab = free(EC2_LAB_ATTACH="10")
    instance, volume = launch(lab), lab.make_volume()
    wait_state(lab, instance, "running")
    (theirs,) = play(
        lab, tmp_path, {"amazon.aws.ec2_vol": {"id": volume, "instance": instance, "device_name": "/dev/sdg"}}
    )
    assert [item["status"] for item in theirs["volume"]["attachment_set"]] == ["attaching"]

    ours = {"volume_id": volume, "instance_id": instance, "device": "/dev/sdg"}
    play(lab, tmp_path, {"ec2_backup.ebs.volume_attachment": ours})
    assert [item["State"] for item in lab.volumes()[volume]["Attachments"]] == ["attached"]


@pytest.mark.heavy
def test_ec2_vol_looks_each_15_seconds_whether_a_volume_is_detached_and_volume_attachment_each_second(free, tmp_path):
    lab = free(EC2_LAB_DETACH="3")
    instance = launch(lab)
    wait_state(lab, instance, "running")
    volume = volume_at(lab, instance, "/dev/sdf")
    theirs = {"amazon.aws.ec2_vol": {"id": volume, "instance": ""}}
    assert longest_pause(calls_of(lab, lambda: play(lab, tmp_path, theirs))) > POLL

    lab.api("attach_volume", VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    ours = {"volume_id": volume, "instance_id": instance, "state": "absent"}
    calls = calls_of(lab, lambda: play(lab, tmp_path, {"ec2_backup.ebs.volume_attachment": ours}))
    assert longest_pause(calls) < POLL
    assert lab.volumes()[volume]["State"] == "available"


# ---- permission_check


def test_check_mode_of_amazon_aws_has_ec2_check_nothing_and_permission_check_tells_what_is_refused(free, tmp_path):
    policy = tmp_path / "policy.json"
    look = {"Effect": "Allow", "Action": ["ec2:Describe*", "sts:GetCallerIdentity"], "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [look]}))
    lab = free(EC2_LAB_POLICY=str(policy))
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    subnet = lab.api("describe_subnets")["Subnets"][0]
    ami = image(lab)
    answers: list[Answer] = []
    group = {"name": "ours", "description": "SSH", "vpc_id": vpc, "tags": {"Name": "x"}}
    instance = {
        "image_id": ami,
        "instance_type": "t3.nano",
        "count": 1,
        "filters": {},
        "network_interfaces": [{"subnet_id": subnet["SubnetId"]}],
        "tags": {"Name": "x"},
    }
    theirs = ({"amazon.aws.ec2_security_group": group}, {"amazon.aws.ec2_instance": instance})
    calls = calls_of(
        lab, lambda: answers.extend(play(lab, tmp_path, *({**task, "check_mode": True} for task in theirs)))
    )
    assert [(answer["failed"], answer["changed"]) for answer in answers] == [(False, True), (False, True)]
    assert {call["action"] for call in calls} <= {"DescribeSecurityGroups", "DescribeSubnets", "GetCallerIdentity"}

    ours = {
        "launch": {
            "candidates": [
                {"instance_type": "t3.nano", "subnet_id": subnet["SubnetId"], "zone": subnet["AvailabilityZone"]}
            ],
            "image_id": ami,
            "tags": {"Name": "x"},
        },
        "group": group,
        "tags": {"Name": "x"},
    }
    (answer,) = play(lab, tmp_path, {"ec2_backup.ebs.permission_check": ours})
    assert (answer["failed"], answer["error"]["code"]) == (True, "UnauthorizedOperation")


# ---- security_group


def test_ec2_security_group_sleeps_and_lists_all_groups_and_security_group_makes_two_calls(free, tmp_path):
    lab = free()
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    rule = {"proto": "tcp", "ports": 22, "cidr_ip": "192.0.2.1/32"}
    theirs = {"name": "theirs", "description": "SSH", "vpc_id": vpc, "rules": [rule]}
    calls = calls_of(lab, lambda: play(lab, tmp_path, {"amazon.aws.ec2_security_group": theirs}))
    made = next(number for number, call in enumerate(calls) if call["action"] == "CreateSecurityGroup")
    assert calls[made + 1]["time"] - calls[made]["time"] > 2.9
    assert {} in [call["parameters"] for call in calls if call["action"] == "DescribeSecurityGroups"]

    ours = {"name": "ours", "description": "SSH", "vpc_id": vpc, "cidr": "192.0.2.1/32"}
    calls = calls_of(lab, lambda: play(lab, tmp_path, {"ec2_backup.ebs.security_group": ours}))
    assert [call["action"] for call in calls] == ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"]


# ---- run_end


def test_ec2_instance_terminates_other_peoples_instances_where_it_is_given_no_id(free, tmp_path):
    lab = free()
    bystander = launch(lab)
    wait_state(lab, bystander, "running")
    (theirs,) = play(lab, tmp_path, {"amazon.aws.ec2_instance": {"state": "absent", "instance_ids": [], "wait": False}})
    assert theirs["terminate_success"] == [bystander]

    bystander = launch(lab)
    play(lab, tmp_path, {"ec2_backup.ebs.run_end": {"run_id": RUN, "instance_ids": []}})
    assert found(lab, bystander)["State"]["Name"] in ("pending", "running")


def test_ec2_instance_takes_an_instance_that_ec2_does_not_show_for_one_that_is_gone(free, tmp_path):
    """EC2 may not show yet what it has just launched. In the lab an ID that does not exist stands for that."""
    lab = free()
    answers: list[Answer] = []
    theirs = {"amazon.aws.ec2_instance": {"state": "absent", "instance_ids": [NOBODYS], "wait": False}}
    calls = calls_of(lab, lambda: answers.extend(play(lab, tmp_path, theirs)))
    assert answers == [{"failed": False, "changed": False, "msg": "No matching instances found"}]
    assert [call["action"] for call in calls] == ["DescribeInstances"]


@pytest.mark.heavy
def test_ec2_instance_lets_a_pending_instance_run_before_it_terminates_it(free, tmp_path):
    """Unless `wait_timeout` allows one look only, as in the role instance. run_end terminates it at once."""
    lab = free(EC2_LAB_PENDING="14")
    end = {"instance_ids": "{{ answer0.instance_ids }}", "state": "absent", "wait": False}
    launched, _, _, patient, _, ours = play(
        lab,
        tmp_path,
        {"amazon.aws.ec2_instance": launching(lab)},
        {"amazon.aws.ec2_instance": end},
        {"amazon.aws.ec2_instance": launching(lab)},
        {"amazon.aws.ec2_instance": {**end, "instance_ids": "{{ answer2.instance_ids }}", "wait_timeout": 15}},
        {"amazon.aws.ec2_instance": launching(lab, **{"ec2-backup:run-id": RUN})},
        {"ec2_backup.ebs.run_end": {"run_id": RUN}},
    )
    assert longest_pause(looks(lab, launched["instance_ids"][0])) > POLL
    assert longest_pause(looks(lab, patient["terminate_success"][0])) < POLL
    assert [thing["action"] for thing in ours["removed"] if thing["kind"] == "instance"] == ["terminated"]


def test_ec2_instance_loses_the_code_with_which_ec2_refuses_to_terminate(free, tmp_path):
    lab = free()
    instance = launch(lab, **{"ec2-backup:run-id": RUN})
    wait_state(lab, instance, "running")
    lab.break_api({"action": "TerminateInstances", "always": True, "code": "UnauthorizedOperation"})
    (theirs,) = play(
        lab, tmp_path, {"amazon.aws.ec2_instance": {"state": "absent", "instance_ids": [instance], "wait": False}}
    )
    assert (theirs["failed"], theirs["terminate_failed"]) == (True, [instance])
    assert "error" not in theirs


# ---- the retries of amazon.aws, which no option of its modules limits


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: amazon.run_instances(client), "InsufficientInstanceCapacity"),
        (lambda client: amazon.terminate_instances(client, [NOBODYS]), "RequestLimitExceeded"),
        (lambda client: amazon.describe_volumes(client), "RequestLimitExceeded"),
    ],
)
def test_amazon_aws_tries_ten_times_for_up_to_five_and_a_half_minutes_what_ec2_has_no_room_or_no_time_for(
    call, code, monkeypatch
):
    tries: list[object] = []
    pauses: list[float] = []

    class Client:
        """EC2 that refuses every call."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def refuse(*_: object, **__: object) -> Any:
                if name == "get_paginator":
                    return self
                tries.append(name)
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, name)

            return refuse

    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    with pytest.raises(amazon.AnsibleEC2Error):
        call(Client())
    assert len(tries) == 10
    assert sum(pauses) == 333


# ---- what amazon.aws does not do, and the roles do themselves


def test_ec2_instance_fails_a_launch_of_which_the_instance_is_there_where_a_look_at_it_fails(free, tmp_path):
    lab = free()
    lab.break_api({"action": "DescribeInstanceAttribute", "always": True, "code": "UnauthorizedOperation"})
    (theirs,) = play(lab, tmp_path, {"amazon.aws.ec2_instance": launching(lab)})
    (instance,) = lab.instances()
    text = "Could not describe attribute instanceType for instance {}: Failed to describe instance attribute"
    assert theirs["msg"] == text.format(instance["InstanceId"])
    assert not {"error", "instance_ids"} & theirs.keys()


def look_for(lab: Lab, path: Path, wanted: str, tasks: str = "find") -> str:
    """What a play prints that looks for a volume or a snapshot as the role volume does."""
    role = {"ansible.builtin.include_role": {"name": "ec2_backup.ebs.volume", "tasks_from": tasks}}
    tell = {"ansible.builtin.debug": {"msg": "{{ __ec2_backup_found | to_json }}"}}
    given = {"__ec2_backup_wanted": wanted, "__ec2_backup_region": ""}
    written = [{"hosts": "localhost", "gather_facts": False, "vars": given, "tasks": [role, tell]}]
    (path / "play.yml").write_text(json.dumps(written))
    done = lab.run("ansible-playbook", path / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    return done.stdout + done.stderr


@pytest.mark.heavy
def test_a_volume_is_looked_for_in_all_regions_and_those_that_do_not_answer_are_named(free, tmp_path):
    lab = free()
    regions = [region["RegionName"] for region in lab.api("describe_regions")["Regions"]]
    closed = next(region for region in regions if region != "us-east-1")
    lab.break_api({"action": "DescribeVolumes", "nth": 2, "code": "UnauthorizedOperation"})
    told = look_for(lab, tmp_path, "vol-0123456789abcdef0")
    assert f"was not found in us-east-1, nor in the {len(regions) - 2} other regions looked at; " in told
    assert f"; these would not answer: {closed}." in told
    assert sorted(call["region"] for call in lab.calls("DescribeVolumes")) == sorted(regions)


@pytest.mark.heavy
def test_the_reason_that_ec2_vol_info_does_not_hand_on_is_asked_of_another_call(free, tmp_path):
    lab = free()
    volume = lab.make_volume()
    lab.break_api({"action": "DescribeVolumes", "always": True, "code": "UnauthorizedOperation"})
    (theirs,) = play(lab, tmp_path, {"amazon.aws.ec2_vol_info": {"filters": {"volume-id": volume}}})
    assert theirs["msg"] == "Failed to describe volumes.: Failed to describe volumes"
    assert "error" not in theirs
    assert "could not be looked for: you are not authorised for ec2:DescribeVolumes" in look_for(lab, tmp_path, volume)
    lab.break_api({"action": "*", "always": True, "code": "RequestExpired", "message": "Request has expired."})
    told = look_for(lab, tmp_path, volume)
    assert "could not be looked for: An error occurred (RequestExpired) when calling the DescribeRegions" in told
