#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: instance_wait
short_description: Wait until an instance runs
version_added: "0.1.0"
description:
  - Looks at one instance each second until it is running in its zone, and has its address and its volume.
  - EC2 may not know yet what it has just launched, and may be too busy to tell; both are waited out. All else ends
    the wait.
  - The waiters of amazon.aws look every 15 seconds only, and its modules try a throttled call again for five minutes.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  instance_id:
    description: The instance.
    type: str
    required: true
  zone:
    description: The zone that it must be in.
    type: str
    required: true
  address:
    description: The address that it must have.
    type: str
    choices: [public, private]
    default: public
  device_name:
    description: Where it must have a volume. It needs none if this is left out.
    type: str
  timeout:
    description: The seconds to wait.
    type: int
    default: 300
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Is skipped in check mode.
    support: none
"""

EXAMPLES = r"""
- name: Wait for an instance and its volume
  ec2_backup.ebs.instance_wait:
    instance_id: i-0123456789abcdef0
    zone: us-east-1a
    device_name: /dev/sdf
"""

RETURN = r"""
address:
  description: Its address.
  returned: success
  type: str
volume_id:
  description: The volume at O(device_name); an empty string if that was left out.
  returned: success
  type: str
zone:
  description: Its zone.
  returned: success
  type: str
region:
  description: The region that was asked.
  returned: success
  type: str
"""

import contextlib
import time

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    POLL_SECONDS,
    error_code,
    patiently,
)

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

UNKNOWN = "unknown to EC2"


def look(client, instance_id):
    """Return the instance as DescribeInstances returns it, or an empty dictionary while EC2 does not know it."""
    try:
        found = client.describe_instances(InstanceIds=[instance_id])["Reservations"]
    except ClientError as error:
        if error_code(error) == "InvalidInstanceID.NotFound":
            return {}
        raise
    return found[0]["Instances"][0] if found else {}


def picture(instance, params):
    """Return the facts about an instance that count here.

    :returns: ``state``, ``zone``, ``address``, ``volume_id``, and ``reason`` for its state.
    """
    volumes = {item["DeviceName"]: item["Ebs"]["VolumeId"] for item in instance.get("BlockDeviceMappings", [])}
    return {
        "state": instance.get("State", {}).get("Name", UNKNOWN),
        "zone": instance.get("Placement", {}).get("AvailabilityZone", ""),
        "address": instance.get(params["address"].capitalize() + "IpAddress") or "",
        "volume_id": volumes.get(params["device_name"], ""),
        "reason": instance.get("StateReason", {}).get("Message", ""),
    }


def equipped(seen, params):
    """Return whether it has its address, and its volume if it needs one."""
    return bool(seen["address"] and (seen["volume_id"] or not params["device_name"]))


def wait(client, params, clock=time.monotonic, sleep=time.sleep):
    """Look until nothing is missing, or time cannot bring it any more; return the last picture."""
    deadline = clock() + params["timeout"]
    while True:
        patience = max(0.0, deadline - clock())
        seen = picture(
            patiently(lambda: look(client, params["instance_id"]), BUSY, patience, clock, sleep),
            params,
        )
        coming = seen["state"] in ("pending", UNKNOWN) or (seen["state"] == "running" and not equipped(seen, params))
        if not coming or clock() >= deadline:
            return seen
        sleep(POLL_SECONDS)


def complaint(seen, params):
    """Return what is wrong with the last picture, or an empty string."""
    if seen["state"] == "running" and seen["zone"] == params["zone"] and equipped(seen, params):
        return ""
    text = (
        "Instance {instance_id} did not come up within {timeout} s: waited for it to be running in {zone} with a "
        "{address} address".format(**params)
    )
    found = "{}, zone {}, address {}".format(*(seen[key] or "none" for key in ("state", "zone", "address")))
    if params["device_name"]:
        text, found = f"{text} and its volume", "{}, volume {}".format(found, seen["volume_id"] or "none")
    return "{}; last seen: {}{}.".format(text, found, seen["reason"] and ", " + seen["reason"])


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "instance_id": {"type": "str", "required": True},
            "zone": {"type": "str", "required": True},
            "address": {"type": "str", "choices": ["public", "private"], "default": "public"},
            "device_name": {"type": "str"},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=False,
    )
    try:
        seen = wait(module.client("ec2"), module.params)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Instance {instance_id} could not be waited for".format(**module.params))
    wrong = complaint(seen, module.params)
    if wrong:
        module.fail_json(msg=wrong)
    module.exit_json(
        changed=False, region=module.region, **{key: seen[key] for key in ("address", "volume_id", "zone")}
    )


if __name__ == "__main__":
    main()
