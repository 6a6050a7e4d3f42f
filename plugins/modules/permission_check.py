#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: permission_check
short_description: Have EC2 check the calls of a run, and make nothing
version_added: "0.1.0"
description:
  - Makes the calls of a run with EC2's parameter C(DryRun), so that nothing is done.
  - The launch is checked as a whole. EC2 checks permissions, image, subnet, groups, key pair, the type's zone and the
    volume's figures; not quotas, capacity and the KMS key. Where a candidate is refused for a lack of room, the next is
    checked.
  - What concerns a given volume is certain, and missing permissions for that are an error that names them.
  - What concerns things that only the launch makes is asked with placeholder IDs. A policy may allow it for what the
    run tags and for nothing else, so a refusal of that is no error. It is returned as RV(unsure).
author:
  - The ec2-backup developers (@ec2-backup)
options:
  launch:
    description: The launch.
    type: dict
    required: true
    suboptions:
      candidates:
        description: Where to launch, the best first, each with C(instance_type), C(subnet_id) and C(zone).
        type: list
        elements: dict
        required: true
      image_id:
        description: The image.
        type: str
        required: true
      key_name:
        description: A key pair for the image's own login.
        type: str
      security_group_ids:
        description: The security groups. If there are none, the run makes its own group, which is checked too.
        type: list
        elements: str
        default: []
      public_ip:
        description: Whether to ask for a public address.
        type: bool
        default: true
      volume:
        description: A new volume, as M(amazon.aws.ec2_instance) takes it in O(amazon.aws.ec2_instance#module:volumes).
        type: dict
      tags:
        description: The tags of the instance and of its volumes.
        type: dict
        required: true
  group:
    description: The security group that the run would make.
    type: dict
    required: true
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      description:
        description: What it is for.
        type: str
        required: true
      vpc_id:
        description: Its VPC.
        type: str
        required: true
      tags:
        description: Its tags.
        type: dict
        required: true
  volume_id:
    description: The given volume; a new one is meant if it is not named.
    type: str
  device:
    description: The device name that the given volume is to be attached under.
    type: str
  tags:
    description: The tags that the volume gets, by their keys.
    type: dict
    required: true
  tags_taken:
    description: The keys of the tags that are taken from the given volume.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Works in check mode as it does outside of it.
    support: full
"""

EXAMPLES = r"""
- name: Check what a run would do
  ec2_backup.ebs.permission_check:
    launch:
      candidates:
        - {instance_type: t3.small, subnet_id: subnet-0123456789abcdef0, zone: us-east-1a}
      image_id: ami-0123456789abcdef0
      tags: {Name: a backup}
    group:
      name: ec2-backup-20261122t184500z-1f2e3d4c
      description: One run of ec2-backup
      vpc_id: vpc-0123456789abcdef0
      tags: {ec2-backup:run-id: 20261122t184500z-1f2e3d4c}
    volume_id: vol-0123456789abcdef0
    device: /dev/sdf
    tags:
      ec2-backup:status: writing
"""

RETURN = r"""
candidate:
  description: The first candidate that EC2 does not refuse.
  returned: success
  type: dict
region:
  description: The region that was asked.
  returned: success
  type: str
  sample: us-east-1
allowed:
  description: The permissions that there are.
  returned: success
  type: list
  elements: str
  sample: ["ec2:CreateTags"]
unsure:
  description: Those of which EC2 cannot tell before the run, each with its C(permission) and EC2's C(code).
  returned: success
  type: list
  elements: dict
"""

import contextlib
import functools

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_specifications,
)

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    error_code,
    patiently,
    rehearse,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.group import group_request
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.launch import (
    lacks_room,
    no_room,
    request,
)

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

BUSY_SECONDS = 30
# Placeholder IDs.
NO_INSTANCE = "i-00000000000000000"
NO_VOLUME = "vol-00000000000000000"
NO_GROUP = "sg-00000000000000000"
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}


class NoRoom(Exception):
    """EC2 refuses every candidate for a lack of room; the text lists them."""


def check(method, **arguments):
    """Have EC2 check a call of the client; try again for half a minute while EC2 is too busy.

    :raises ClientError: what EC2 would refuse the call for.
    """
    patiently(functools.partial(rehearse, method, **arguments), BUSY, BUSY_SECONDS)


def check_launch(client, launch):
    """Have EC2 check the launch; return the first candidate that it does not refuse.

    :raises ClientError: EC2 refuses the launch.
    :raises NoRoom: EC2 refuses every candidate for a lack of room.
    """
    tried = []
    specifications = boto3_tag_specifications(launch["tags"], ["instance", "volume"])
    for candidate in launch["candidates"]:
        try:
            check(client.run_instances, TagSpecifications=specifications, **request(launch, candidate))
        except ClientError as error:
            if not lacks_room(error_code(error)):
                raise
            tried.append(dict(candidate, code=error_code(error)))
        else:
            return candidate
    raise NoRoom(no_room(tried))


def check_group(client, group):
    """Have EC2 check that the run's security group can be made.

    :raises ClientError: EC2 refuses it.
    """
    check(client.create_security_group, **group_request(group))


def questions(params):
    """Return what is asked, in the order of a run.

    :returns: (permission, method of the client, arguments, whether that is certain) of each question.
    """
    given, own_group = params["volume_id"], not params["launch"]["security_group_ids"]
    volume = given or NO_VOLUME
    tags = ansible_dict_to_boto3_tag_list(params["tags"])
    taken = [{"Key": key} for key in params["tags_taken"]]
    wanted = []
    if own_group:
        rule = {"GroupId": NO_GROUP, "IpPermissions": [SSH]}
        wanted.append(("AuthorizeSecurityGroupIngress", "authorize_security_group_ingress", rule, False))
    if given:
        attachment = {"VolumeId": given, "InstanceId": NO_INSTANCE, "Device": params["device"]}
        wanted.append(("AttachVolume", "attach_volume", attachment, False))
        wanted.append(("DeleteTags", "delete_tags", {"Resources": [given], "Tags": taken}, True))
    wanted += [
        ("CreateTags", "create_tags", {"Resources": [volume], "Tags": tags}, bool(given)),
        ("DetachVolume", "detach_volume", {"VolumeId": volume, "InstanceId": NO_INSTANCE}, False),
        ("TerminateInstances", "terminate_instances", {"InstanceIds": [NO_INSTANCE]}, False),
    ]
    if own_group:
        wanted.append(("DeleteSecurityGroup", "delete_security_group", {"GroupId": NO_GROUP}, False))
    return [("ec2:" + action, method, arguments, certain) for action, method, arguments, certain in wanted]


def ask(client, params):
    """Ask EC2 about each permission.

    :returns: the permissions that there are, those that are missing, and those that are not certain with EC2's code.
    """
    allowed, missing, unsure = [], [], []
    for permission, method, arguments, certain in questions(params):
        try:
            check(getattr(client, method), **arguments)
        except ClientError as error:
            if not certain:
                unsure.append({"permission": permission, "code": error_code(error)})
            elif error_code(error) == "UnauthorizedOperation":
                missing.append(permission)
            else:
                raise
        else:
            allowed.append(permission)
    return allowed, missing, unsure


def main():
    text, needed, mapping = {"type": "str"}, {"type": "str", "required": True}, {"type": "dict", "required": True}
    module = AnsibleAWSModule(
        argument_spec={
            "launch": {
                "type": "dict",
                "required": True,
                "options": {
                    "candidates": {"type": "list", "elements": "dict", "required": True},
                    "image_id": needed,
                    "key_name": {"type": "str", "no_log": False},
                    "security_group_ids": {"type": "list", "elements": "str", "default": []},
                    "public_ip": {"type": "bool", "default": True},
                    "volume": {"type": "dict"},
                    "tags": mapping,
                },
            },
            "group": {
                "type": "dict",
                "required": True,
                "options": {"name": needed, "description": needed, "vpc_id": needed, "tags": mapping},
            },
            "volume_id": text,
            "device": text,
            "tags": mapping,
            "tags_taken": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        required_by={"volume_id": ("device",)},
        supports_check_mode=True,
    )
    params, client = module.params, module.client("ec2")
    allowed = ["ec2:RunInstances"]
    try:
        if not params["launch"]["security_group_ids"]:
            what = "Security group {name} could not be made".format(**params["group"])
            check_group(client, params["group"])
            allowed.append("ec2:CreateSecurityGroup")
        what = "The instance was not launched"
        candidate = check_launch(client, params["launch"])
        what = "The permissions could not be checked"
        further, missing, unsure = ask(client, params)
    except NoRoom as error:
        module.fail_json(msg=f"{what}: {error}")
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=what)
    if missing:
        module.fail_json(
            msg="Volume {} could not be written to: you are not authorised for {} on it. Add that to the policy of "
            "these credentials; docs/iam-policy.json has all that ec2-backup needs.".format(
                params["volume_id"], ", ".join(missing)
            )
        )
    module.exit_json(changed=False, candidate=candidate, region=module.region, allowed=allowed + further, unsure=unsure)


if __name__ == "__main__":
    main()
