#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: volume_find
short_description: Find an EBS volume in whichever region it is
version_added: "0.1.0"
description:
  - Looks for a volume by its ID in the configured region first, then in every other region of the account.
  - Changes nothing.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  volume_id:
    description: The volume to look for.
    type: str
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
- name: Find the volume
  ec2_backup.ebs.volume_find:
    volume_id: vol-0123456789abcdef0
  register: found
"""

RETURN = r"""
region:
  description: The region that has the volume.
  returned: success
  type: str
  sample: eu-central-1
volume:
  description: The volume.
  returned: success
  type: dict
  contains:
    volume_id:
      description: Its ID.
      type: str
    availability_zone:
      description: Its zone.
      type: str
    size:
      description: Its size in GiB.
      type: int
    volume_type:
      description: Its type, such as V(gp3).
      type: str
    iops:
      description: Its provisioned or inherent IOPS; 0 if its type has none.
      type: int
    throughput:
      description: Its provisioned throughput in MiB/s; 0 if its type has none.
      type: int
    encrypted:
      description: Whether it is encrypted.
      type: bool
    state:
      description: Its state, such as V(available) or V(in-use).
      type: str
    attachments:
      description: What binds it now, each with C(instance_id), C(device) and C(state).
      type: list
      elements: dict
    tags:
      description: Its tags.
      type: dict
"""

import contextlib
import re

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import error_code
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.volume import describe_volume, live_attachments

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError


def returned(volume):
    """A volume as this module returns it."""
    result = {key: volume[key] for key in ("VolumeId", "AvailabilityZone", "Size", "State", "VolumeType", "Encrypted")}
    result.update(Iops=volume.get("Iops") or 0, Throughput=volume.get("Throughput") or 0)
    result["Attachments"] = live_attachments(volume)
    return dict(camel_dict_to_snake_dict(result), tags=boto3_tag_list_to_ansible_dict(volume.get("Tags", [])))


def other_regions(module, client):
    """The account's enabled regions (DescribeRegions leaves out the others by default), less the configured one."""
    names = [region["RegionName"] for region in client.describe_regions()["Regions"]]
    return [name for name in names if name != module.region]


def find(module, volume_id):
    """Look everywhere.

    Returns (region, volume, looked, refused): the regions looked at, and those that would not answer with their
    error's code (a policy may close a region that the account has enabled). The volume is None where it was not found.
    """
    client = module.client("ec2")
    volume = describe_volume(client, volume_id)
    looked, refused = [module.region], {}
    if volume is None:
        for region in other_regions(module, client):
            try:
                volume = describe_volume(module.client("ec2", region=region), volume_id)
            except ClientError as error:
                refused[region] = error_code(error)
                continue
            looked.append(region)
            if volume is not None:
                break
    return looked[-1], volume, looked, refused


def not_found(volume_id, looked, refused):
    """The message for a volume that no region has."""
    text = f"Volume {volume_id} was not found in {looked[0]}, nor in the {len(looked) - 1} other regions looked at"
    if refused:
        text += "; these would not answer: " + ", ".join(f"{region} ({code})" for region, code in refused.items())
    return text + "."


def main():
    module = AnsibleAWSModule(
        argument_spec={"volume_id": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    volume_id = module.params["volume_id"]
    if not re.match(r"^vol-([0-9a-f]{8}|[0-9a-f]{17})$", volume_id):
        module.fail_json(msg=f"{volume_id!r} is not a volume ID: those look like vol-0123456789abcdef0.")
    try:
        region, volume, looked, refused = find(module, volume_id)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Could not look for volume {volume_id}")
    if volume is None:
        module.fail_json(msg=not_found(volume_id, looked, refused))
    module.exit_json(changed=False, region=region, volume=returned(volume))


if __name__ == "__main__":
    main()
