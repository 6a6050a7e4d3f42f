#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: volume_list
short_description: List the EBS volumes that have a tag
version_added: "0.1.0"
description:
  - Lists the volumes of the configured region that have a tag, whatever its value.
  - Makes one call, or one for each page of the answer. Changes nothing.
  - Where EC2 cannot be asked, tells why. M(amazon.aws.ec2_vol_info) does not (seen with 10.1.2).
author:
  - The ec2-backup developers (@ec2-backup)
options:
  tag_key:
    description: The tag's key.
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
- name: Look for volumes that carry a backup
  ec2_backup.ebs.volume_list:
    tag_key: ec2-backup:source
  register: found
"""

RETURN = r"""
volumes:
  description: The volumes, in no order.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its ID.
      type: str
    status:
      description: Its state, such as V(available) or V(in-use).
      type: str
    attachment_set:
      description: Its attachments, each with C(instance_id), C(device) and C(status).
      type: list
      elements: dict
    create_time:
      description: When EC2 made it, in UTC.
      type: str
      sample: "2026-11-22T18:45:00.123000+00:00"
    encrypted:
      description: Whether it is encrypted.
      type: bool
    iops:
      description: Its IOPS; null where its type has none.
      type: int
    size:
      description: Its size in GiB.
      type: int
    snapshot_id:
      description: The snapshot that it was made from; an empty string if it was made empty.
      type: str
    tags:
      description: Its tags.
      type: dict
    throughput:
      description: Its throughput in MiB/s; null where its type has none.
      type: int
    type:
      description: Its type, such as V(gp3).
      type: str
    zone:
      description: Its zone.
      type: str
"""

import contextlib

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import BUSY, patiently

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 60.0  # seconds of nothing but errors that may pass


def returned(volume):
    """A volume as this module returns it: the names are those of M(amazon.aws.ec2_vol_info)."""
    attachments = [
        {"instance_id": item.get("InstanceId"), "device": item.get("Device"), "status": item.get("State")}
        for item in volume.get("Attachments", [])
    ]
    return {
        "id": volume["VolumeId"],
        "status": volume["State"],
        "attachment_set": attachments,
        "create_time": volume["CreateTime"].isoformat(),
        "encrypted": volume["Encrypted"],
        "iops": volume.get("Iops"),
        "size": volume["Size"],
        "snapshot_id": volume.get("SnapshotId", ""),
        "tags": boto3_tag_list_to_ansible_dict(volume.get("Tags", [])),
        "throughput": volume.get("Throughput"),
        "type": volume["VolumeType"],
        "zone": volume["AvailabilityZone"],
    }


def find(client, tag_key):
    """The volumes that have the tag."""
    pages = client.get_paginator("describe_volumes").paginate(Filters=[{"Name": "tag-key", "Values": [tag_key]}])
    return [returned(volume) for page in pages for volume in page["Volumes"]]


def main():
    module = AnsibleAWSModule(
        argument_spec={"tag_key": {"type": "str", "required": True, "no_log": False}},
        supports_check_mode=True,
    )
    client = module.client("ec2")
    try:
        volumes = patiently(lambda: find(client, module.params["tag_key"]), BUSY, PATIENCE)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The volumes could not be listed")
    module.exit_json(changed=False, volumes=volumes)


if __name__ == "__main__":
    main()
