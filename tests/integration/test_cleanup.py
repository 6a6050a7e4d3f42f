"""The cleanup by itself: what it removes, what it does not touch, and what it reports."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent import ROOT
from tests.integration.conftest import Done, Lab

PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


@pytest.fixture
def lab(make_lab) -> Lab:
    """A lab with short waiting times."""
    times = ("PENDING", "SHUTDOWN", "VOLUME_CREATING", "ATTACH", "DETACH")
    quick: Lab = make_lab(EC2_LAB_BOOT="never", **{f"EC2_LAB_{name}": "0.2" for name in times})
    return quick


@dataclasses.dataclass
class Result:
    """How a cleanup ended, and what it returned."""

    done: Done
    stats: dict[str, Any]

    def __getitem__(self, name: str) -> dict[str, str]:
        """One of its lists, as {ID: action}."""
        return {entry["id"]: entry["action"] for entry in self.stats[name]}


def result(done: Done) -> Result:
    """Read what a playbook returned in its statistics from its output."""
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("RUN: ")]
    return Result(done, json.loads(line.partition("RUN: ")[2])["ec2_backup_cleanup"])


def command(*options: str, **variables: Any) -> list[str]:
    """The cleanup as a command line."""
    asked = {f"ec2_backup_cleanup_{name}": value for name, value in {"interval": 1, **variables}.items()}
    output = ["ANSIBLE_SHOW_CUSTOM_STATS=1", "ANSIBLE_CALLBACK_RESULT_FORMAT=json"]
    return ["env", *output, "ansible-playbook", "playbooks/cleanup.yml", "-e", json.dumps(asked), *options]


def cleanup(lab: Lab, *options: str, rc: int = 0, **variables: Any) -> Result:
    """Run the cleanup with role variables, and expect it to end so."""
    done = lab.run(*command(*options, **variables))
    assert done.rc == rc, done.stdout + done.stderr
    return result(done)


def tags(run_id: str, expires: str = FUTURE, status: str = "writing") -> list[dict[str, str]]:
    """The tags with which a run launches its instance and its volumes."""
    named = {"run-id": run_id, "status": status, "source": "host:/data", "expires": expires}
    return [{"Key": f"ec2-backup:{name}", "Value": value} for name, value in named.items()]


def tagged(kind: str, run_id: str, expires: str = FUTURE) -> list[dict[str, Any]]:
    """A TagSpecification."""
    return [{"ResourceType": kind, "Tags": tags(run_id, expires)}]


def make_group(lab: Lab, run_id: str, expires: str = FUTURE) -> str:
    """Make a run's security group."""
    vpc = lab.api("describe_vpcs")["Vpcs"][0]["VpcId"]
    name: str = lab.api(
        "create_security_group",
        GroupName=f"ec2-backup-{run_id}",
        Description="One run of ec2-backup",
        VpcId=vpc,
        TagSpecifications=tagged("security-group", run_id, expires),
    )["GroupId"]
    lab.api(
        "authorize_security_group_ingress", GroupId=name, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="1.2.3.4/32"
    )
    return name


def launch_arguments(lab: Lab, group: str = "", **more: Any) -> dict[str, Any]:
    """RunInstances as a backup asks for it, with a new volume on /dev/sdf."""
    images = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["al2023*x86_64*"]}])["Images"]
    ebs = {"VolumeSize": 1, "DeleteOnTermination": True}
    return {
        "ImageId": images[0]["ImageId"],
        "InstanceType": "t3.nano",
        "MinCount": 1,
        "MaxCount": 1,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": ebs}],
        **({"SecurityGroupIds": [group]} if group else {}),
        **more,
    }


def launch(lab: Lab, run_id: str = "", expires: str = FUTURE, group: str = "") -> tuple[str, str]:
    """Launch an instance, a bystander without a run ID; return it and its volume on /dev/sdf when it is running."""
    specifications = tagged("instance", run_id, expires) + tagged("volume", run_id, expires) if run_id else []
    launched = lab.api("run_instances", **launch_arguments(lab, group, TagSpecifications=specifications))
    name = launched["Instances"][0]["InstanceId"]
    while state(lab, name) != "running":
        pass
    (volume,) = [v for v, found in lab.volumes().items() if holds(found, name, "/dev/sdf")]
    return name, volume


def make_leftover(lab: Lab, run_id: str) -> str:
    """Make an uncommitted volume of a run that no instance has."""
    specifications = tagged("volume", run_id)
    made = lab.api("create_volume", Size=1, AvailabilityZone="us-east-1a", TagSpecifications=specifications)
    name: str = made["VolumeId"]
    return name


def holds(volume: dict[str, Any], instance: str, device: str) -> bool:
    """Whether the volume is attached to the instance in this way."""
    return (instance, device) in [(item["InstanceId"], item["Device"]) for item in volume["Attachments"]]


def state(lab: Lab, instance: str) -> str:
    """The state of an instance."""
    found: dict[str, str] = {found["InstanceId"]: found["State"]["Name"] for found in lab.instances()}
    return found[instance]


def groups(lab: Lab) -> set[str]:
    """The IDs of all security groups."""
    return {group["GroupId"] for group in lab.api("describe_security_groups")["SecurityGroups"]}


def set_faults(lab: Lab, *faults: dict[str, Any]) -> None:
    """Set these faults in the lab."""
    new = lab.state / "faults.new"
    new.write_text(json.dumps({"api": list(faults)}))
    os.replace(new, lab.state / "faults.json")


CHANGING = ("TerminateInstances", "DeleteVolume", "DetachVolume", "DeleteSecurityGroup", "RevokeSecurityGroupIngress")


def test_a_run_s_cleanup_removes_all_of_the_run_and_nothing_else(lab):
    group = make_group(lab, "r1")
    ours, volume = launch(lab, "r1", group=group)
    leftover = make_leftover(lab, "r1")
    other, other_volume = launch(lab, "r2", PAST)
    bystander, _ = launch(lab)
    precious = lab.make_volume()

    removed = cleanup(lab, run_id="r1")["removed"]
    assert removed.items() >= {ours: "terminated", volume: "deleted", leftover: "deleted", group: "deleted"}.items()
    assert state(lab, ours) == "terminated"
    assert {state(lab, other), state(lab, bystander)} == {"running"}
    assert lab.volumes().keys() >= {other_volume, precious}
    assert not lab.volumes().keys() & removed.keys()
    assert group not in groups(lab)
    assert len(lab.calls("TerminateInstances")) == 1

    before = len(lab.calls("DescribeInstances"))
    again = cleanup(lab, run_id="r1")
    assert (again["removed"], again["left"], again["kept"]) == ({}, {}, {})
    assert "nothing to clean up" in again.done.stdout
    assert len(lab.calls("DescribeInstances")) == before + 2
    assert len(lab.calls("TerminateInstances")) == 1


def test_a_cleanup_of_what_has_expired_leaves_running_backups_and_bystanders_alone(lab):
    group = make_group(lab, "r1", PAST)
    shared = make_group(lab, "r3", PAST)
    ours, volume = launch(lab, "r1", PAST, group)
    running_group = make_group(lab, "r2")
    running, running_volume = launch(lab, "r2", FUTURE, running_group)
    bystander, bystander_volume = launch(lab, group=shared)
    precious = lab.make_volume()
    want = {ours: "terminated", volume: "deleted", group: "deleted"}
    foreign = {running, running_volume, running_group, bystander, bystander_volume, precious, shared}

    checked = cleanup(lab, "--check")
    listed = cleanup(lab, dry_run=True)
    assert checked["would"] == listed["would"]
    assert listed["would"].items() >= want.items()
    assert not listed["would"].keys() & foreign
    assert (listed["removed"], listed["left"]) == ({}, {})
    assert [call for action in CHANGING for call in lab.calls(action)] == []
    assert f"{ours} of run r1: would be terminated" in listed.done.stdout

    done = cleanup(lab)
    assert done["removed"] == listed["would"]
    assert done["kept"] == {shared: "deleted"}
    assert f"{shared} of run r3: kept, since {bystander} uses it" in done.done.stdout
    assert {state(lab, running), state(lab, bystander)} == {"running"}
    assert lab.volumes().keys() >= {running_volume, bystander_volume, precious}
    assert groups(lab) >= {running_group, shared}
    assert group not in groups(lab)


LATE = """
import json, pathlib, sys, time, boto3
calls, arguments = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
while calls.read_text().count('"DescribeInstances"') <= int(sys.argv[3]):
    time.sleep(0.1)
boto3.client("ec2").run_instances(**arguments)
"""


def test_an_instance_that_appears_after_the_first_look_is_found(lab, tmp_path):
    specifications = tagged("instance", "r1") + tagged("volume", "r1")
    arguments = json.dumps(launch_arguments(lab, TagSpecifications=specifications))
    (tmp_path / "late.py").write_text(LATE)
    looked = str(len(lab.calls("DescribeInstances")))
    script = 'AWS_ACCESS_KEY_ID="$1" python "$2" "$3" "$4" "$5" & shift 5; "$@"; status=$?; wait; exit $status'
    late = [ROOT, str(tmp_path / "late.py"), str(lab.state / "calls.jsonl"), arguments, looked]
    done = lab.run("sh", "-c", script, "sh", *late, *command(run_id="r1", interval=4))
    assert done.rc == 0, done
    (instance,) = lab.instances()
    assert result(done)["removed"][instance["InstanceId"]] == "terminated"
    lab.assert_nothing_left()


def test_complete_and_given_volumes_outlive_their_instance(lab):
    """The complete one would be deleted with the instance: if it cannot be detached, the instance must stay."""
    given = lab.make_volume()
    ours, complete = launch(lab, "r1", PAST)
    lab.api("attach_volume", InstanceId=ours, VolumeId=given, Device="/dev/sdg")
    while lab.volumes()[given]["Attachments"][0]["State"] != "attached":
        pass
    lab.api("create_tags", Resources=[complete], Tags=[{"Key": "ec2-backup:status", "Value": "complete"}])
    lab.api("delete_tags", Resources=[complete], Tags=[{"Key": "ec2-backup:expires"}])
    write(lab.image(complete), b"finished")
    write(lab.image(given), b"precious")

    set_faults(lab, {"action": "DetachVolume", "always": True, "code": "UnauthorizedOperation"})
    failed = cleanup(lab, rc=2)
    assert failed["left"].keys() >= {ours, complete}
    assert "could not be detached" in failed.done.stdout
    assert state(lab, ours) == "running"
    assert lab.volumes()[complete]["State"] == "in-use"

    set_faults(lab)
    removed = cleanup(lab)["removed"]
    assert removed.items() >= {ours: "terminated", complete: "detached", given: "detached"}.items()
    lab.assert_nothing_left(complete, given)
    assert cleanup(lab, run_id="r1").stats["complete"] == [complete]
    assert read(lab.image(complete)) == b"finished"
    assert read(lab.image(given)) == b"precious"


def write(image: Path, text: bytes) -> None:
    with image.open("r+b") as file:
        file.write(text)


def read(image: Path) -> bytes:
    with image.open("rb") as file:
        return file.read(8)


def test_what_cannot_be_removed_is_named_and_does_not_keep_the_rest(lab):
    ours, volume = launch(lab, "r1")
    stuck = make_leftover(lab, "r1")
    set_faults(lab, {"action": "DeleteVolume", "always": True, "code": "UnauthorizedOperation"})
    failed = cleanup(lab, run_id="r1", rc=2)
    assert failed["removed"].items() >= {ours: "terminated", volume: "deleted"}.items()
    assert failed["left"] == {stuck: "deleted"}
    assert f"Something is left behind: volume {stuck} of run r1: " in failed.done.stdout
    assert "UnauthorizedOperation" in failed.done.stdout

    set_faults(lab, {"action": "DescribeInstances", "always": True, "code": "AuthFailure"})
    unseen = cleanup(lab, run_id="r1", rc=2)
    assert unseen["removed"] == {}
    assert "The account could not be looked at" in unseen.done.stdout
    assert stuck in lab.volumes()


@pytest.mark.heavy
def test_a_pending_instance_is_terminated_at_once(make_lab):
    lab = make_lab(EC2_LAB_BOOT="never", EC2_LAB_PENDING="60", EC2_LAB_SHUTDOWN="0.2")
    specifications = tagged("instance", "r1") + tagged("volume", "r1")
    lab.api("run_instances", **launch_arguments(lab, TagSpecifications=specifications))
    (instance,) = lab.instances()
    assert instance["State"]["Name"] == "pending"
    assert cleanup(lab, run_id="r1")["removed"][instance["InstanceId"]] == "terminated"
    lab.assert_nothing_left()


@pytest.mark.heavy
def test_two_cleanups_at_once_both_succeed(lab):
    ours, _ = launch(lab, "r1", PAST, make_group(lab, "r1", PAST))
    script = '"$@" >/dev/null & "$@"; status=$?; wait $!; exit $((status + $?))'
    done = lab.run("sh", "-c", script, "sh", *command(run_id="r1"))
    assert done.rc == 0, done
    assert state(lab, ours) == "terminated"
    lab.assert_nothing_left()
