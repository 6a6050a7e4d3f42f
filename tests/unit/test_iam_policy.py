"""docs/iam-policy.json: what it allows is what is used, no less and no more.

That it is enough, conditions included, is proven in the lab: every integration test runs under it (EC2_LAB_POLICY).
"""

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from lab.api.policy import Policy, Reader

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "iam-policy.json").read_text()
POLICY = Policy(TEXT)

# What amazon.aws asks for in our name. Its modules and lookups that the roles use; a new one fails the test below.
AMAZON = {
    "aws_region_info": {"ec2:DescribeRegions"},
    "ec2_instance": {
        "ec2:DescribeInstanceAttribute",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstances",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
    },
    "ec2_instance_info": {"ec2:DescribeInstances"},
    "ec2_vol_info": {"ec2:DescribeVolumes"},
    "ec2_tag": {"ec2:CreateTags", "ec2:DeleteTags", "ec2:DescribeTags"},
    "ec2_vpc_subnet_info": {"ec2:DescribeSubnets"},
    "ssm_parameter": {"ssm:GetParameter"},
}

RUN = {"ec2-backup:run-id": "r1"}
THINGS = {
    "i-1": RUN,
    "i-2": {},
    "sg-1": RUN,
    "sg-2": {},
    "vol-1": {**RUN, "ec2-backup:status": "writing"},
    "vol-2": {},
    "vol-3": {**RUN, "ec2-backup:status": "complete"},
}


def allowed_actions():
    found: set[str] = set()
    for statement in POLICY.statements:
        actions = statement["Action"]
        found |= set([actions] if isinstance(actions, str) else actions)
    return found


def operations(service):
    """{method of a boto3 client: operation}"""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def used_actions():
    """What the collection's own code calls, and what the modules of amazon.aws do that the roles name."""
    methods = operations("ec2")
    found = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        text = path.read_text()
        words = set(re.findall(r"client\.(\w+)|[\"'](\w+)[\"']", text)) if "client" in text else set()
        found |= {f"ec2:{methods[word]}" for pair in words for word in pair if word in methods}
    for path in (*(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").glob("*.yml")):
        for name in re.findall(r"amazon\.aws\.(?!aws\b)(\w+)", path.read_text()):
            found |= AMAZON[name]
    return found


def test_it_is_a_policy_of_which_each_action_is_one_of_ec2_or_ssm():
    assert json.loads(TEXT)["Version"] == "2012-10-17"
    known = {f"{service}:{name}" for service in ("ec2", "ssm") for name in operations(service).values()}
    assert allowed_actions() <= known


def test_it_allows_every_action_that_is_used_and_no_other():
    assert allowed_actions() == used_actions()


def test_only_looking_is_allowed_on_everything():
    everywhere = [statement for statement in POLICY.statements if statement["Resource"] == "*"]
    assert all(action.startswith("ec2:Describe") for statement in everywhere for action in statement["Action"])


def allows(action: str, **parameters: Any) -> bool:
    reader = Reader("eu-west-1", lambda name: THINGS.get(name, {}))
    named = {name.replace("_", "."): value for name, value in parameters.items()}
    return POLICY.refused(reader.requests("ec2", action, named)) is None


LAUNCH = {"ImageId": "ami-1", "NetworkInterface_1_SubnetId": "subnet-1", "KeyName": "k"}


def tagged(*kinds: str) -> dict[str, str]:
    """The parameters of a call that tags the things of these kinds that it makes with the run's ID."""
    parameters: dict[str, str] = {}
    for number, kind in enumerate(kinds):
        prefix = f"TagSpecification_{number}"
        parameters |= {f"{prefix}_ResourceType": kind, f"{prefix}_Tag_1_Key": "ec2-backup:run-id"}
        parameters[f"{prefix}_Tag_1_Value"] = "r1"
    return parameters


@pytest.mark.parametrize(
    ("expected", "action", "parameters"),
    [
        (True, "RunInstances", {**LAUNCH, **tagged("instance", "volume")}),
        (False, "RunInstances", {**LAUNCH, **tagged("instance")}),
        (False, "RunInstances", LAUNCH),
        (True, "CreateSecurityGroup", {**tagged("security-group"), "VpcId": "vpc-1"}),
        (False, "CreateSecurityGroup", {"VpcId": "vpc-1"}),
        (True, "TerminateInstances", {"InstanceId_1": "i-1"}),
        (False, "TerminateInstances", {"InstanceId_1": "i-2"}),
        (False, "TerminateInstances", {"InstanceId_1": "i-1", "InstanceId_2": "i-2"}),
        (True, "DeleteVolume", {"VolumeId": "vol-1"}),
        (False, "DeleteVolume", {"VolumeId": "vol-2"}),
        (False, "DeleteVolume", {"VolumeId": "vol-3"}),
        (True, "DeleteSecurityGroup", {"GroupId": "sg-1"}),
        (False, "DeleteSecurityGroup", {"GroupId": "sg-2"}),
        (True, "AuthorizeSecurityGroupIngress", {"GroupId": "sg-1"}),
        (False, "AuthorizeSecurityGroupIngress", {"GroupId": "sg-2"}),
        (True, "AttachVolume", {"InstanceId": "i-1", "VolumeId": "vol-2"}),
        (False, "AttachVolume", {"InstanceId": "i-2", "VolumeId": "vol-1"}),
        (True, "DetachVolume", {"InstanceId": "i-1", "VolumeId": "vol-2"}),
        (False, "DetachVolume", {"InstanceId": "i-2", "VolumeId": "vol-2"}),
        (True, "CreateTags", {"ResourceId_1": "vol-2", "Tag_1_Key": "ec2-backup:status", "Tag_1_Value": "x"}),
        (False, "CreateTags", {"ResourceId_1": "vol-2", "Tag_1_Key": "Name", "Tag_1_Value": "x"}),
        (False, "CreateTags", {"ResourceId_1": "i-2", "Tag_1_Key": "ec2-backup:run-id", "Tag_1_Value": "x"}),
        (True, "DeleteTags", {"ResourceId_1": "vol-2", "Tag_1_Key": "ec2-backup:run-id"}),
        (False, "DeleteTags", {"ResourceId_1": "vol-2"}),  # all of them
        (True, "DescribeVolumes", {"VolumeId_1": "vol-2"}),
        (False, "CreateSnapshot", {"VolumeId": "vol-1"}),
        (False, "ModifyInstanceAttribute", {"InstanceId": "i-1"}),
        (False, "StopInstances", {"InstanceId_1": "i-1"}),
    ],
)
def test_what_it_allows_is_bound_to_the_runs_tag(expected, action, parameters):
    assert allows(action, **parameters) is expected


@pytest.mark.parametrize("name", ["secret", "/aws/service/eks/optimized-ami/1.30/x"])
def test_no_parameter_but_those_that_name_the_image_may_be_read(name):
    requests = Reader("eu-west-1", lambda _: {}).requests("ssm", "GetParameter", {"Name": name})
    assert POLICY.refused(requests) is not None
