"""RunInstances and the calls that go with it: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.lab.harness import AL2023, Lab, code_of


def wanted(lab: Lab, **arguments: Any) -> dict[str, Any]:
    return {"ImageId": lab.ami(), "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, **arguments}


def disk(size: int = 1, device: str = "/dev/sdf", **ebs: Any) -> dict[str, Any]:
    return {"DeviceName": device, "Ebs": {"VolumeSize": size, "VolumeType": "gp3", **ebs}}


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound", "ami-00000000000000000"),
        ({"ImageId": "image"}, "InvalidAMIID.Malformed", "image"),
        ({"InstanceType": "t9.nano"}, "InvalidParameterValue", "t9.nano"),
        ({"InstanceType": "t4g.nano"}, "InvalidParameterValue", "does not match the architecture 'x86_64'"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound", "nobody"),
        ({"SecurityGroupIds": ["sg-0123"]}, "InvalidGroup.NotFound", "sg-0123"),
        ({"SecurityGroups": ["nobody"]}, "InvalidGroup.NotFound", "nobody"),
        ({"SubnetId": "subnet-0123"}, "InvalidSubnetID.NotFound", "subnet-0123"),
        ({"Placement": {"AvailabilityZone": "us-east-1z"}}, "InvalidParameterValue", "us-east-1z"),
        ({"Placement": {"AvailabilityZone": "us-east-1e"}}, "Unsupported", "us-east-1e"),
        ({"BlockDeviceMappings": [disk(0)]}, "InvalidParameterValue", "too small"),
        ({"BlockDeviceMappings": [disk(device="disk")]}, "InvalidParameterValue", "not a valid EBS device name"),
        ({"BlockDeviceMappings": [disk(), disk()]}, "InvalidBlockDeviceMapping", "/dev/sdf"),
        ({"BlockDeviceMappings": [disk(2, "/dev/xvda")]}, "InvalidBlockDeviceMapping", "smaller than snapshot"),
        ({"BlockDeviceMappings": [disk(Iops=1)]}, "InvalidParameterValue", "minimum is 3000"),
        ({"BlockDeviceMappings": [disk(KmsKeyId="k")]}, "InvalidParameterDependency", "Encrypted"),
        ({"DryRun": True}, "DryRunOperation", "would have succeeded"),
        ({"DryRun": True, "ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound", "ami-00000000000000000"),
        ({"DryRun": True, "Placement": {"AvailabilityZone": "us-east-1e"}}, "Unsupported", "us-east-1e"),
    ],
)
def test_an_invalid_launch_is_refused_before_anything_is_made(lab: Lab, wrong: Any, code: str, words: str) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""
    before = (lab.ec2.describe_volumes()["Volumes"], len(lab.ec2.describe_instances()["Reservations"]))
    found, message = code_of(lab.ec2.run_instances, **wanted(lab, **wrong))
    assert found == code
    assert words in message
    assert (lab.ec2.describe_volumes()["Volumes"], len(lab.ec2.describe_instances()["Reservations"])) == before


def test_the_zone_must_be_that_of_the_subnet(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html"""
    subnets = {entry["AvailabilityZone"]: entry["SubnetId"] for entry in lab.ec2.describe_subnets()["Subnets"]}
    zones = lab.ec2.describe_availability_zones()["AvailabilityZones"]
    assert set(subnets) == {zone["ZoneName"] for zone in zones if zone["State"] == "available"}
    placement = {"AvailabilityZone": "us-east-1b"}
    code, message = code_of(lab.ec2.run_instances, **wanted(lab, SubnetId=subnets["us-east-1a"], Placement=placement))
    assert code == "InvalidParameterValue"
    assert "is in the availability zone us-east-1a" in message
    instance = lab.instance(lab.launch(Placement=placement))
    assert (instance["Placement"]["AvailabilityZone"], instance["SubnetId"]) == ("us-east-1b", subnets["us-east-1b"])


def test_calls_with_the_same_client_token_take_effect_once(lab: Lab) -> None:
    """https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"""
    arguments = wanted(lab, ClientToken="once")
    first = lab.ec2.run_instances(**arguments)
    assert lab.ec2.run_instances(**arguments)["ReservationId"] == first["ReservationId"]
    code, _ = code_of(lab.ec2.run_instances, **{**arguments, "InstanceType": "t3.micro"})
    assert code == "IdempotentParameterMismatch"
    volume = {"AvailabilityZone": "us-east-1a", "Size": 1, "ClientToken": "volume"}
    assert lab.ec2.create_volume(**volume)["VolumeId"] == lab.ec2.create_volume(**volume)["VolumeId"]
    assert code_of(lab.ec2.create_volume, **{**volume, "Size": 2})[0] == "IdempotentParameterMismatch"


def test_the_regions_are_those_that_an_account_has_without_enabling_any(lab: Lab) -> None:
    """https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html"""
    names = {region["RegionName"] for region in lab.ec2.describe_regions()["Regions"]}
    assert len(names) == 17
    assert {"us-east-1", "eu-central-1", "sa-east-1"} <= names
    assert not {"af-south-1", "us-gov-west-1", "cn-north-1"} & names
    named = lab.ec2.describe_regions(RegionNames=["af-south-1"])["Regions"]
    assert [region["RegionName"] for region in named] == ["af-south-1"]


def test_in_every_region_the_public_parameters_name_images_that_can_be_launched(lab: Lab) -> None:
    """https://docs.aws.amazon.com/linux/al2023/ug/ec2.html"""
    for region in [entry["RegionName"] for entry in lab.ec2.describe_regions()["Regions"]]:
        ssm, ec2 = lab.client("ssm", region), lab.client("ec2", region)
        names = [AL2023.format(kind) for kind in ("x86_64", "arm64")]
        names += [name.replace("al2023-ami-", "al2023-ami-minimal-") for name in names]
        found = {entry["Name"]: entry["Value"] for entry in ssm.get_parameters(Names=names)["Parameters"]}
        images = {image["ImageId"]: image for image in ec2.describe_images(ImageIds=list(found.values()))["Images"]}
        for name in names:
            image = images[found[name]]
            assert image["Architecture"] == name.rpartition("-")[2]
            assert (image["RootDeviceName"], image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]) == ("/dev/xvda", 8)
        assert ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]


def test_an_unknown_id_is_not_found(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""
    assert code_of(lab.ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])[0] == "InvalidInstanceID.NotFound"
    assert code_of(lab.ec2.terminate_instances, InstanceIds=["i-0123456789abcdef0"])[0] == "InvalidInstanceID.NotFound"
    code, message = code_of(lab.ec2.describe_volumes, VolumeIds=["vol-0123456789abcdef0"])
    assert (code, message) == ("InvalidVolume.NotFound", "The volume 'vol-0123456789abcdef0' does not exist.")
    code, message = code_of(lab.ec2.delete_snapshot, SnapshotId="snap-0123456789abcdef0")
    assert (code, message) == ("InvalidSnapshot.NotFound", "The snapshot 'snap-0123456789abcdef0' does not exist.")


def test_every_call_is_logged(lab: Lab) -> None:
    """The log is the lab's own; EC2's is https://docs.aws.amazon.com/AWSEC2/latest/APIReference/using-cloudtrail.html"""
    before = len(lab.calls())
    code_of(lab.ec2.describe_volumes, VolumeIds=["vol-0123"])
    lab.ami()
    first, second = lab.calls()[before:]
    assert (first["service"], first["action"], first["region"]) == ("ec2", "DescribeVolumes", "us-east-1")
    assert (first["outcome"], second["outcome"]) == ("error", "ok")
    assert (first["parameters"], first["status"], first["error"]) == (
        {"VolumeId.1": "vol-0123"},
        400,
        "InvalidVolume.NotFound",
    )
    assert (second["service"], second["action"], second["error"]) == ("ssm", "GetParameter", None)


def test_checkip_answers_over_https_with_the_callers_address(lab: Lab) -> None:
    """https://checkip.amazonaws.com"""
    code = "import urllib.request as r; print(r.urlopen('https://checkip.amazonaws.com').read())"
    command = ["nsenter", "-t", str(lab.process.pid), "-m", "-n", sys.executable, "-c", code]
    result = subprocess.run(command, env=dict(lab.environment), capture_output=True, text=True, check=False)
    assert result.stdout == "b'127.0.0.1\\n'\n", result.stderr
