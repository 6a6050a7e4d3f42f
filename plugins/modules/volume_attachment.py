#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: volume_attachment
short_description: Attach an EBS volume to an instance, or detach it, and wait until that is so
version_added: "0.1.0"
description:
  - With O(state=present) the volume is attached to the instance under the device name, and the module returns when the
    attachment's own state is C(attached). The device may still be missing inside the instance.
  - With O(state=absent) it is detached from that instance, and the module returns when the volume is C(available).
  - Polls each second. EC2's error code is kept in C(error.code) of a failure.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  volume_id:
    description: The volume.
    type: str
    required: true
  instance_id:
    description: The instance that the volume is attached to, or detached from.
    type: str
    required: true
  device:
    description: The device name of the attachment. Required with O(state=present).
    type: str
  state:
    description: Whether the volume is to be attached.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 120
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reports what it would change, and calls nothing that changes.
    support: full
"""

EXAMPLES = r"""
- name: Attach the volume
  ec2_backup.ebs.volume_attachment:
    volume_id: vol-0123456789abcdef0
    instance_id: i-0123456789abcdef0
    device: /dev/sdf

- name: Detach it
  ec2_backup.ebs.volume_attachment:
    volume_id: vol-0123456789abcdef0
    instance_id: i-0123456789abcdef0
    state: absent
"""

RETURN = r"""
volume_state:
  description: The volume's state at the end, such as V(in-use) or V(available).
  returned: success
  type: str
"""

import contextlib

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.volume import (
    WaitTimeout,
    describe_state,
    describe_volume,
    live_attachments,
    wait_for,
)

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError


def to_instance(volume, instance_id):
    """Return the volume's attachment to that instance, or None."""
    return next((item for item in live_attachments(volume) if item["InstanceId"] == instance_id), None)


def attach(module, client, volume, describe):
    """Attach the volume if it is not attached; return (changed, volume)."""
    volume_id, instance_id, device = (module.params[key] for key in ("volume_id", "instance_id", "device"))
    mine = to_instance(volume, instance_id)
    if mine and mine["Device"] != device:
        module.fail_json(
            msg="Volume {} is attached to {} as {}, not as {}.".format(volume_id, instance_id, mine["Device"], device)
        )
    if live_attachments(volume) and not mine:
        module.fail_json(msg=f"Volume {volume_id} cannot be attached: it is {describe_state(volume)}.")
    if module.check_mode:
        return not mine, volume
    if not mine:
        try:
            client.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device=device)
        except ClientError:
            # A call whose reply was lost is sent again, and then refused for what it did itself.
            if not to_instance(describe(), instance_id):
                raise
    return not mine, wait_for(
        lambda seen: seen is not None and (to_instance(seen, instance_id) or {}).get("State") == "attached",
        f"waiting for volume {volume_id} to be attached to {instance_id}",
        module.params["timeout"],
        describe,
    )


def detach(module, client, volume, describe):
    """Detach the volume if it is attached; return (changed, volume)."""
    volume_id, instance_id = (module.params[key] for key in ("volume_id", "instance_id"))
    mine = to_instance(volume, instance_id)
    if not mine and live_attachments(volume):
        module.fail_json(msg=f"Volume {volume_id} is not attached to {instance_id}: it is {describe_state(volume)}.")
    if not mine or module.check_mode:
        return bool(mine), volume
    if mine["State"] != "detaching":
        try:
            client.detach_volume(VolumeId=volume_id, InstanceId=instance_id)
        except ClientError:  # as with attach
            if (to_instance(describe(), instance_id) or {"State": "detaching"})["State"] != "detaching":
                raise
    return True, wait_for(
        lambda seen: seen is not None and seen["State"] == "available" and not live_attachments(seen),
        f"waiting for volume {volume_id} to be detached from {instance_id}",
        module.params["timeout"],
        describe,
    )


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "volume_id": {"type": "str", "required": True},
            "instance_id": {"type": "str", "required": True},
            "device": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "timeout": {"type": "int", "default": 120},
        },
        required_if=[("state", "present", ["device"])],
        supports_check_mode=True,
    )
    volume_id = module.params["volume_id"]
    client = module.client("ec2")

    def describe():
        return describe_volume(client, volume_id)

    doing = {"present": ("attach", attach), "absent": ("detach", detach)}
    verb, act = doing[module.params["state"]]
    try:
        volume = describe()
        if volume is None:
            module.fail_json(msg=f"Volume {volume_id} was not found in {module.region}.")
        changed, volume = act(module, client, volume, describe)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Could not {verb} volume {volume_id}")
    except WaitTimeout as error:
        module.fail_json(msg=f"Gave up {error}")
    module.exit_json(changed=changed, volume_state=volume["State"])


if __name__ == "__main__":
    main()
