"""Volumes: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volumes.html"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.common.kernel import loop_attach
from tests.lab.harness import Lab, code_of, running_lab, wait_for

BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}"


@pytest.fixture(scope="module")
def machine(shared_lab: Lab) -> tuple[str, str]:
    """(ID, address) of an instance in us-east-1a that the tests of this file use."""
    with shared_lab.network():
        instance = shared_lab.launch()
        return instance, shared_lab.login(instance)


def mapping(size: int = 1, device: str = "/dev/sdf", **ebs: Any) -> dict[str, Any]:
    return {"DeviceName": device, "Ebs": {"VolumeSize": size, "VolumeType": "gp3", **ebs}}


def attach(lab: Lab, volume: str, instance: str, device: str) -> None:
    lab.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=device)
    wait_for(lambda: lab.volume(volume)["Attachments"][0]["State"] == "attached", f"{volume} to be attached")


def test_a_volume_is_creating_at_first_and_its_file_is_sparse_and_has_its_size(lab: Lab) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-describing-volumes.html"""
    answer = lab.ec2.create_volume(Size=7, AvailabilityZone="us-east-1b", VolumeType="gp3", Encrypted=True)
    volume = answer["VolumeId"]
    assert answer["State"] == "creating"
    assert lab.volume(volume)["State"] == "creating"
    wait_for(lambda: lab.volume(volume)["State"] == "available", "the volume to be available")
    shown = lab.volume(volume)
    assert (shown["Iops"], shown["Throughput"], shown["Encrypted"]) == (3000, 125, True)
    assert shown["KmsKeyId"].startswith("arn:aws:kms:")
    assert lab.image(volume).stat().st_size == 7 << 30
    assert lab.image(volume).stat().st_blocks == 0
    status = lab.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"][0]
    assert status["VolumeStatus"]["Status"] == "ok"
    lab.ec2.delete_volume(VolumeId=volume)
    assert not lab.image(volume).exists()


def test_a_loop_device_is_writable_although_its_last_user_set_it_read_only(tmp_path: Path) -> None:
    """The kernel keeps ``blockdev --setro`` with the number of a loop device, also for its next user."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    for _ in range(20):  # another process may take the number in between
        first = loop_attach(image)
        node = f"/dev/loop{first.number}"
        try:
            subprocess.run(["blockdev", "--setro", node], check=True)
        finally:
            first.close()
        second = loop_attach(image)
        try:
            if second.number == first.number:
                assert os.pwrite(second.descriptor, b"written", 0) == 7
                return
        finally:
            subprocess.run(["blockdev", "--setrw", node], check=True)
            second.close()
    raise AssertionError("no second loop device had the same number")


def test_the_device_appears_after_the_attachment_and_disappears_with_it(lab: Lab, machine: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-attaching-volume.html"""
    instance, address = machine
    volume = lab.create_volume(2)
    device = BY_ID.format(volume.replace("-", ""))
    answer = lab.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdh")
    assert answer["State"] == "attaching"
    assert lab.volume(volume)["State"] == "in-use"
    assert lab.volume(volume)["Attachments"][0]["State"] == "attaching"
    wait_for(lambda: lab.volume(volume)["Attachments"][0]["State"] == "attached", "the attachment")
    wait_for(lambda: lab.ssh(address, f"test -b {device}").returncode == 0, "the device")
    facts = lab.ssh(address, f"readlink {device}; ls /dev/disk/by-id; sudo blockdev --getsize64 {device}").stdout
    assert facts.startswith("../../nvme1n1\n"), "on Nitro the device does not get the requested name"
    assert f"{volume.replace('-', '')}_1" in facts
    assert str(2 << 30) in facts
    assert lab.ssh(address, f"lsblk -dno SERIAL {device}").stdout.strip() == volume.replace("-", "")
    assert lab.ssh(address, f"echo bytes | sudo dd of={device} conv=nocreat,fsync").returncode == 0
    with lab.image(volume).open("rb") as handle:
        assert handle.read(6) == b"bytes\n"
    answer = lab.ec2.detach_volume(VolumeId=volume)
    assert answer["State"] == "detaching"
    wait_for(lambda: lab.volume(volume)["State"] == "available", "the detachment")
    assert lab.volume(volume)["Attachments"] == []
    assert lab.ssh(address, f"test -e {device}").returncode == 1


def test_a_mounted_volume_is_busy_until_it_is_unmounted(lab: Lab, machine: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-detaching-volume.html"""
    instance, address = machine
    volume = lab.create_volume()
    attach(lab, volume, instance, "/dev/sdi")
    device = BY_ID.format(volume.replace("-", ""))
    wait_for(lambda: lab.ssh(address, f"test -b {device}").returncode == 0, "the device")
    made = lab.ssh(
        address, f"sudo mkfs.ext4 -q {device} && sudo mount {device} /mnt && findmnt -t ext4 -no FSTYPE /mnt"
    )
    assert made.stdout == "ext4\n", made.stderr
    lab.ec2.detach_volume(VolumeId=volume, InstanceId=instance)
    wait_for(lambda: lab.volume(volume)["Attachments"][0]["State"] == "busy", "the attachment to be busy")
    assert lab.ssh(address, "sudo umount /mnt").returncode == 0
    wait_for(lambda: lab.volume(volume)["State"] == "available", "the detachment")


def test_volumes_of_a_launch_get_their_tags_and_are_deleted_as_their_mapping_says(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html"""
    tags = [{"ResourceType": kind, "Tags": [{"Key": "kind", "Value": kind}]} for kind in ("instance", "volume")]
    mappings = [
        mapping(8, Encrypted=True, Iops=4000, Throughput=250, DeleteOnTermination=True),
        mapping(2, "/dev/sdg", DeleteOnTermination=False),
    ]
    instance = lab.launch(BlockDeviceMappings=mappings, TagSpecifications=tags)
    found = {entry["DeviceName"]: entry["Ebs"] for entry in lab.instance(instance)["BlockDeviceMappings"]}
    assert {name: ebs["DeleteOnTermination"] for name, ebs in found.items()} == {
        "/dev/xvda": True,
        "/dev/sdf": True,
        "/dev/sdg": False,
    }
    address = lab.login(instance)
    volumes = {name: lab.volume(ebs["VolumeId"]) for name, ebs in found.items()}
    assert all(volume["Tags"] == [{"Key": "kind", "Value": "volume"}] for volume in volumes.values())
    assert lab.instance(instance)["Tags"] == [{"Key": "kind", "Value": "instance"}]
    data = volumes["/dev/sdf"]
    assert (data["Size"], data["Iops"], data["Throughput"], data["Encrypted"]) == (8, 4000, 250, True)
    assert data["Attachments"][0]["State"] == "attached"
    serials = [volumes[name]["VolumeId"].replace("-", "") for name in ("/dev/xvda", "/dev/sdf", "/dev/sdg")]
    assert lab.ssh(address, "cat /sys/block/nvme?n1/device/serial").stdout.split() == serials
    lab.ec2.terminate_instances(InstanceIds=[instance])
    lab.wait_state(instance, "terminated")
    left = [volume for volume in volumes.values() if lab.image(volume["VolumeId"]).exists()]
    assert [volume["Size"] for volume in left] == [2]
    assert lab.volume(left[0]["VolumeId"])["State"] == "available"
    assert code_of(lab.ec2.describe_volumes, VolumeIds=[data["VolumeId"]])[0] == "InvalidVolume.NotFound"


def test_delete_on_termination_can_be_changed_while_the_instance_runs(lab: Lab) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html"""
    instance = lab.launch(BlockDeviceMappings=[mapping(DeleteOnTermination=True)])
    change = [{"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": False}}]
    lab.ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=change)
    disks = {entry["DeviceName"]: entry["Ebs"]["VolumeId"] for entry in lab.instance(instance)["BlockDeviceMappings"]}
    assert lab.volume(disks["/dev/sdf"])["Attachments"][0]["DeleteOnTermination"] is False
    lab.ec2.terminate_instances(InstanceIds=[instance])
    lab.wait_state(instance, "terminated")
    assert lab.volume(disks["/dev/sdf"])["State"] == "available"


def test_an_invalid_attachment_is_refused_with_ec2s_error_code(lab: Lab, machine: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html"""
    instance, _ = machine
    volume, other, elsewhere = lab.create_volume(), lab.create_volume(), lab.create_volume(zone="us-east-1b")
    call = lab.ec2.attach_volume
    attach(lab, volume, instance, "/dev/sdj")
    assert code_of(call, VolumeId=volume, InstanceId=instance, Device="/dev/sdk")[0] == "VolumeInUse"
    assert code_of(call, VolumeId=elsewhere, InstanceId=instance, Device="/dev/sdk")[0] == "InvalidVolume.ZoneMismatch"
    code, message = code_of(call, VolumeId=other, InstanceId=instance, Device="/dev/sdj")
    assert code == "InvalidParameterValue"
    assert "Attachment point /dev/sdj is already in use" in message
    assert code_of(call, VolumeId=other, InstanceId=instance, Device="disk")[0] == "InvalidParameterValue"
    assert code_of(call, VolumeId="vol-0123", InstanceId=instance, Device="/dev/sdk")[0] == "InvalidVolume.NotFound"
    assert code_of(call, VolumeId=other, InstanceId="i-0123", Device="/dev/sdk")[0] == "InvalidInstanceID.NotFound"
    assert code_of(lab.ec2.delete_volume, VolumeId=volume)[0] == "VolumeInUse"
    assert code_of(lab.ec2.detach_volume, VolumeId=other)[0] == "IncorrectState"
    root = lab.instance(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert code_of(lab.ec2.detach_volume, VolumeId=root)[0] == "OperationNotPermitted"
    young = lab.launch()
    assert code_of(call, VolumeId=other, InstanceId=young, Device="/dev/sdk")[0] == "IncorrectState"
    lab.ec2.terminate_instances(InstanceIds=[young])
    lab.wait_state(young, "terminated")
    assert code_of(call, VolumeId=other, InstanceId=young, Device="/dev/sdk")[0] == "IncorrectState"
    fresh = lab.ec2.create_volume(Size=1, AvailabilityZone="us-east-1a")["VolumeId"]
    assert code_of(call, VolumeId=fresh, InstanceId=instance, Device="/dev/sdk")[0] == "IncorrectState"


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"Size": 0}, "InvalidParameterValue", "too small"),
        ({"Size": 65537}, "InvalidParameterValue", "too large"),
        ({"Size": 17000, "VolumeType": "gp2"}, "InvalidParameterValue", "maximum is 16384GiB"),
        ({"Size": 1, "Iops": 2999}, "InvalidParameterValue", "minimum is 3000"),
        ({"Size": 20, "Iops": 15000}, "InvalidParameterValue", "ratio of 750.000000 is too high"),
        ({"Size": 1, "Throughput": 1000}, "InvalidParameterValue", "ratio of 0.333333 is too high"),
        ({"Size": 1, "VolumeType": "gp9"}, "UnknownVolumeType", "gp9"),
        ({"Size": 1, "AvailabilityZone": "us-east-1z"}, "InvalidZone.NotFound", "us-east-1z"),
        ({"Size": 1, "SnapshotId": "snap-0123"}, "InvalidSnapshot.NotFound", ""),
    ],
)
def test_an_invalid_volume_is_refused(lab: Lab, wrong: dict[str, Any], code: str, words: str) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html"""
    wanted = {"AvailabilityZone": "us-east-1a", "VolumeType": "gp3", **wrong}
    found, message = code_of(lab.ec2.create_volume, **wanted)
    assert found == code
    assert words in message


def test_a_volume_made_from_a_snapshot_has_its_bytes(lab: Lab, machine: tuple[str, str]) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshots.html"""
    volume = lab.create_volume()
    with lab.image(volume).open("r+b") as handle:
        handle.write(b"saved")
    snapshot = lab.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    lab.ec2.delete_volume(VolumeId=volume)
    copy = lab.create_volume(2, SnapshotId=snapshot)
    with lab.image(copy).open("rb") as handle:
        assert handle.read(5) == b"saved"
    assert lab.image(copy).stat().st_size == 2 << 30
    small = code_of(lab.ec2.create_volume, AvailabilityZone="us-east-1a", SnapshotId=snapshot, Size=0)
    assert small[0] == "InvalidParameterValue"


def test_on_xen_a_device_has_the_requested_name_and_no_serial(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html"""
    with running_lab(tmp_path_factory.mktemp("xen"), EC2_LAB_DEVICES="xen") as lab, lab.network():
        address = lab.login(lab.launch(InstanceType="t2.nano", BlockDeviceMappings=[mapping()]))
        assert lab.ssh(address, "ls /dev/xvd*; ls /dev/disk/by-id; lsblk -dno SERIAL /dev/xvdf").stdout.split() == [
            "/dev/xvda",
            "/dev/xvdf",
        ]
