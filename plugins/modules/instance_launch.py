#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: instance_launch
short_description: Launch one instance, with a new volume, where EC2 has room for it
version_added: "0.1.0"
description:
  - Makes one RunInstances call for one instance and, if asked for, a new volume that is deleted with it.
  - Where EC2 has no capacity for a candidate, the next one is tried.
  - Does not wait, and never adopts an instance that is there already. Each candidate has a client token of its own, so
    a call whose reply is lost launches nothing twice.
  - M(amazon.aws.ec2_instance) would retry a lack of capacity in the same zone for minutes, and returns the user-data.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  candidates:
    description: Where to try, the best first.
    type: list
    elements: dict
    required: true
    suboptions:
      instance_type:
        description: The instance type.
        type: str
        required: true
      subnet_id:
        description: The subnet.
        type: str
        required: true
      zone:
        description: The subnet's zone, for messages.
        type: str
        required: true
  image_id:
    description: The image.
    type: str
    required: true
  key_name:
    description: A key pair for the image's own login.
    type: str
  security_group_ids:
    description:
      - The security groups.
      - None may be named in check mode only, where a group of the run's own cannot be there yet. EC2 then checks the
        launch with the default group of the VPC.
    type: list
    elements: str
    required: true
  public_ip:
    description: Whether to ask for a public address; the subnet decides if V(false).
    type: bool
    default: true
  user_data:
    description: The user-data, as text.
    type: str
  volume:
    description:
      - A new volume, encrypted and deleted with the instance.
      - C(device_name), C(size) in GiB or C(snapshot_id), C(volume_type), and if wanted C(iops), C(throughput) in MiB/s,
        C(kms_key_id).
    type: dict
  tags:
    description: The tags of the instance and of its volumes.
    type: dict
    default: {}
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description:
      - Asks EC2 to check the very same call, and to make nothing (C(DryRun)). EC2 checks permissions, image, subnet,
        groups, key pair, the type's zone and the volume's figures; not quotas, capacity and the KMS key.
      - RV(instance_id) is an empty string then, and RV(candidate) the first that EC2 does not refuse.
    support: full
"""

EXAMPLES = r"""
- name: Launch an instance with a new volume
  ec2_backup.ebs.instance_launch:
    candidates:
      - instance_type: t3.small
        subnet_id: subnet-0123456789abcdef0
        zone: us-east-1a
    image_id: ami-0123456789abcdef0
    security_group_ids: [sg-0123456789abcdef0]
    volume:
      device_name: /dev/sdf
      size: 8
      volume_type: gp3
"""

RETURN = r"""
instance_id:
  description: The instance; an empty string in check mode.
  returned: success
  type: str
candidate:
  description: The candidate that had room.
  returned: success
  type: dict
passed_over:
  description: The candidates that had none, each with C(code), EC2's error code.
  returned: always
  type: list
  elements: dict
region:
  description: The region that was asked.
  returned: success
  type: str
  sample: us-east-1
"""

import contextlib
import functools
import uuid

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_specifications

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import error_code, patiently, rehearse

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

# "Not here, not now": https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
# What has just been made may not be known everywhere yet.
NOT_YET = ("InvalidGroup.NotFound",)
NOT_YET_SECONDS = 30
NO_ROOM = ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "Unsupported")


def block_device(volume):
    """A new volume as RunInstances takes it."""
    names = {
        "size": "VolumeSize",
        "snapshot_id": "SnapshotId",
        "volume_type": "VolumeType",
        "iops": "Iops",
        "throughput": "Throughput",
        "kms_key_id": "KmsKeyId",
    }
    ebs = {names[key]: volume[key] for key in names if volume.get(key)}
    return {"DeviceName": volume["device_name"], "Ebs": {**ebs, "Encrypted": True, "DeleteOnTermination": True}}


def request(params, candidate):
    """The arguments of RunInstances for one candidate."""
    interface = {"DeviceIndex": 0, "SubnetId": candidate["subnet_id"]}
    if params["security_group_ids"]:
        interface["Groups"] = params["security_group_ids"]
    if params["public_ip"]:
        interface["AssociatePublicIpAddress"] = True
    wanted = {
        "ClientToken": str(uuid.uuid4()),
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": params["image_id"],
        "InstanceType": candidate["instance_type"],
        "NetworkInterfaces": [{**interface, "DeleteOnTermination": True}],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required"},
    }
    if params["key_name"]:
        wanted["KeyName"] = params["key_name"]
    if params["user_data"]:
        wanted["UserData"] = params["user_data"]
    if params["volume"]:
        wanted["BlockDeviceMappings"] = [block_device(params["volume"])]
    if params["tags"]:
        wanted["TagSpecifications"] = boto3_tag_specifications(params["tags"], ["instance", "volume"])
    return wanted


def run(client, wanted):
    """Launch; return the instance's ID."""
    return client.run_instances(**wanted)["Instances"][0]["InstanceId"]


def pretend(client, wanted):
    """Have EC2 check a launch; there is no ID to return."""
    rehearse(client.run_instances, **wanted)
    return ""


def launch(client, params, start=run):
    """Try the candidates; return (instance ID or None, the last candidate tried, those passed over)."""
    passed_over = []
    for candidate in params["candidates"]:
        try:
            call = functools.partial(start, client, request(params, candidate))
            instance_id = patiently(call, NOT_YET, NOT_YET_SECONDS)
        except ClientError as error:
            if error_code(error) not in NO_ROOM:
                raise
            passed_over.append(dict(candidate, code=error_code(error)))
        else:
            return instance_id, candidate, passed_over
    return None, None, passed_over


def nowhere(passed_over):
    """Why no candidate would do, and what to do."""
    tried = ", ".join("{instance_type} in {zone} ({code})".format(**candidate) for candidate in passed_over)
    if all(candidate["code"] == "Unsupported" for candidate in passed_over):
        return f"EC2 does not offer {tried}. Name another ec2_backup_instance_type, or a subnet of another zone."
    return f"EC2 has no room for {tried}. Try later, or name other types in ec2_backup_instance_type_alternatives."


def main():
    needed = {"type": "str", "required": True}
    module = AnsibleAWSModule(
        argument_spec={
            "candidates": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"instance_type": needed, "subnet_id": needed, "zone": needed},
            },
            "image_id": needed,
            "key_name": {"type": "str", "no_log": False},
            "security_group_ids": {"type": "list", "elements": "str", "required": True},
            "public_ip": {"type": "bool", "default": True},
            "user_data": {"type": "str", "no_log": True},
            "volume": {"type": "dict"},
            "tags": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if not module.params["security_group_ids"] and not module.check_mode:
        module.fail_json(msg="The instance was not launched: no security groups were named.")
    start = pretend if module.check_mode else run
    try:
        instance_id, candidate, passed_over = launch(module.client("ec2"), module.params, start)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The instance was not launched")
    if instance_id is None:
        module.fail_json(msg="The instance was not launched: " + nowhere(passed_over), passed_over=passed_over)
    module.exit_json(
        changed=True, instance_id=instance_id, candidate=candidate, passed_over=passed_over, region=module.region
    )


if __name__ == "__main__":
    main()
