#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: snapshot_find
short_description: Find a snapshot of an EBS volume
version_added: "0.1.0"
description:
  - Looks for a snapshot by its ID in the configured region. It may belong to another account that shares it.
  - M(amazon.aws.ec2_snapshot_info) asks in addition with whom the snapshot is shared, which EC2 tells to the snapshot's
    owner alone. So it fails for a snapshot that another account shares.
  - Changes nothing.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  snapshot_id:
    description: The snapshot to look for.
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
- name: Find the snapshot
  ec2_backup.ebs.snapshot_find:
    snapshot_id: snap-0123456789abcdef0
  register: found
"""

RETURN = r"""
region:
  description: The region that was asked.
  returned: success
  type: str
  sample: us-east-1
snapshot:
  description: The snapshot.
  returned: success
  type: dict
  contains:
    snapshot_id:
      description: Its ID.
      type: str
    state:
      description: Its state, such as V(completed) or V(pending).
      type: str
    volume_size:
      description: The size in GiB of its volume when it was made.
      type: int
    encrypted:
      description: Whether it is encrypted.
      type: bool
"""

import contextlib

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import error_code

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError


def find(client, snapshot_id):
    """Return the snapshot as EC2 describes it, or None where this region has no such snapshot."""
    try:
        return client.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]
    except ClientError as error:
        if error_code(error) in ("InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed"):
            return None
        raise


def main():
    module = AnsibleAWSModule(
        argument_spec={"snapshot_id": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    snapshot_id = module.params["snapshot_id"]
    try:
        snapshot = find(module.client("ec2"), snapshot_id)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Could not look for snapshot {snapshot_id}")
    if snapshot is None:
        module.fail_json(
            msg=f"Snapshot {snapshot_id} was not found in {module.region}: name one of this region, or another region."
        )
    told = {key: snapshot[key] for key in ("SnapshotId", "State", "VolumeSize", "Encrypted")}
    module.exit_json(changed=False, region=module.region, snapshot=camel_dict_to_snake_dict(told))


if __name__ == "__main__":
    main()
