#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: permission_check
short_description: Ask EC2 whether a run may do what it does once its instance is there
version_added: "0.1.0"
description:
  - Makes the calls of a run that come after the launch, with EC2's parameter C(DryRun), so that nothing is done.
  - What concerns a given volume is certain, and missing permissions for that are an error that names them.
  - What concerns things that only the launch makes is asked with IDs that nobody has. A policy may allow it for what
    the run tags and for nothing else, so a refusal of that is no error. It is told as RV(unsure).
author:
  - The ec2-backup developers (@ec2-backup)
options:
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
  own_group:
    description: Whether the run makes a security group of its own.
    type: bool
    required: true
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
- name: Check what the run needs on the given volume, and to clean up
  ec2_backup.ebs.permission_check:
    volume_id: vol-0123456789abcdef0
    device: /dev/sdf
    tags:
      ec2-backup:status: writing
    own_group: true
"""

RETURN = r"""
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
from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    error_code,
    patiently,
    rehearse,
)

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

BUSY_SECONDS = 30
# IDs that nobody has.
NO_INSTANCE = "i-00000000000000000"
NO_VOLUME = "vol-00000000000000000"
NO_GROUP = "sg-00000000000000000"
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}


def questions(params):
    """What is asked, in the order of a run: (permission, method of the client, arguments, whether that is certain)."""
    given = params["volume_id"]
    volume = given or NO_VOLUME
    tags = ansible_dict_to_boto3_tag_list(params["tags"])
    taken = [{"Key": key} for key in params["tags_taken"]]
    wanted = []
    if params["own_group"]:
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
    if params["own_group"]:
        wanted.append(("DeleteSecurityGroup", "delete_security_group", {"GroupId": NO_GROUP}, False))
    return [("ec2:" + action, method, arguments, certain) for action, method, arguments, certain in wanted]


def ask(client, params):
    """Ask; return (permissions that there are, those that are missing, those that are not certain with EC2's code)."""
    allowed, missing, unsure = [], [], []
    for permission, method, arguments, certain in questions(params):
        call = functools.partial(rehearse, getattr(client, method), **arguments)
        try:
            patiently(call, BUSY, BUSY_SECONDS)
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
    module = AnsibleAWSModule(
        argument_spec={
            "volume_id": {"type": "str"},
            "device": {"type": "str"},
            "tags": {"type": "dict", "required": True},
            "tags_taken": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "own_group": {"type": "bool", "required": True},
        },
        required_by={"volume_id": ("device",)},
        supports_check_mode=True,
    )
    try:
        allowed, missing, unsure = ask(module.client("ec2"), module.params)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The permissions could not be checked")
    if missing:
        module.fail_json(
            msg="Volume {} could not be written to: you are not authorised for {} on it. Add that to the policy of "
            "these credentials; docs/iam-policy.json has all that ec2-backup needs.".format(
                module.params["volume_id"], ", ".join(missing)
            )
        )
    module.exit_json(changed=False, allowed=allowed, unsure=unsure)


if __name__ == "__main__":
    main()
