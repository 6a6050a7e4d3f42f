# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A launch, as EC2 is asked to check it, and what to say where EC2 has no room for it."""

from __future__ import annotations

from typing import Any

Mapping = Any  # a block device mapping as amazon.aws.ec2_instance takes it in ``volumes``
Candidate = Any  # ``instance_type``, ``subnet_id`` and ``zone``

_EBS = {
    "volume_size": "VolumeSize",
    "snapshot_id": "SnapshotId",
    "volume_type": "VolumeType",
    "iops": "Iops",
    "throughput": "Throughput",
    "kms_key_id": "KmsKeyId",
    "encrypted": "Encrypted",
    "delete_on_termination": "DeleteOnTermination",
}
# The codes of "not here, not now": https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
NO_ROOM = ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "Unsupported")


def block_device(mapping: Mapping) -> dict[str, Any]:
    """Return a new volume as RunInstances takes it."""
    ebs = {_EBS[key]: value for key, value in mapping["ebs"].items()}
    return {"DeviceName": mapping["device_name"], "Ebs": ebs}


def request(launch: Any, candidate: Candidate) -> dict[str, Any]:
    """Return the arguments of RunInstances for one candidate, without the tags.

    :param launch: ``image_id``, ``key_name``, ``security_group_ids``, ``public_ip`` and ``volume``, of which all but
        the first may be empty. Without groups EC2 takes the default group of the VPC.
    """
    interface = {"DeviceIndex": 0, "SubnetId": candidate["subnet_id"], "DeleteOnTermination": True}
    if launch["security_group_ids"]:
        interface["Groups"] = list(launch["security_group_ids"])
    if launch["public_ip"]:
        interface["AssociatePublicIpAddress"] = True
    wanted = {
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": launch["image_id"],
        "InstanceType": candidate["instance_type"],
        "NetworkInterfaces": [interface],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required"},
    }
    if launch["key_name"]:
        wanted["KeyName"] = launch["key_name"]
    if launch["volume"]:
        wanted["BlockDeviceMappings"] = [block_device(launch["volume"])]
    return wanted


def lacks_room(code: str) -> bool:
    """Return whether EC2's code of a refused launch means that another zone or type may do."""
    return code in NO_ROOM


def no_room(tried: list[Candidate]) -> str:
    """Return why none of the candidates would do, and what to do.

    :param tried: the candidates, each with EC2's ``code``.
    """
    named = ", ".join("{instance_type} in {zone} ({code})".format(**candidate) for candidate in tried)
    if all(candidate["code"] == "Unsupported" for candidate in tried):
        return f"EC2 does not offer {named}. Name another ec2_backup_instance_type, or a subnet of another zone."
    return f"EC2 has no room for {named}. Try later, or name other types in ec2_backup_instance_type_alternatives."
