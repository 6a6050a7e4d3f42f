#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: instance_end
short_description: Terminate a run's instances
version_added: "0.1.0"
description:
  - Terminates all instances of one run, and those that are named beside them, and waits until they are terminated.
  - What the account says counts, since a launch may have failed after EC2 made the instance. What is named is
    terminated first, whether or not the account can be looked at.
  - Each call that EC2 is too busy for is tried again for half a minute. M(amazon.aws.ec2_instance) tries for five
    minutes, waits until a pending instance runs before it terminates it, and takes an empty list of IDs for all
    there are.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  run_id:
    description: The run, as in the tag C(ec2-backup:run-id).
    type: str
    required: true
  instance_ids:
    description: Instances that are known to be the run's, in case their tag is not visible yet.
    type: list
    elements: str
    default: []
  timeout:
    description: The seconds to wait until they are terminated.
    type: int
    default: 600
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
- name: Terminate what the run launched
  ec2_backup.ebs.instance_end:
    run_id: 20261122t184500z-1f2e3d4c
    instance_ids: [i-0123456789abcdef0]
"""

RETURN = r"""
instance_ids:
  description: The instances that were terminated.
  returned: success
  type: list
  elements: str
"""

import contextlib
import time

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    INSTANCE_ID,
    NETWORK,
    POLL_SECONDS,
    error_code,
    patiently,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import RUN_ID

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 30.0  # seconds for which nothing but errors that may pass is put up with
NOT_FOUND = "InvalidInstanceID.NotFound"


def search(client, name, values):
    """Instances by a filter: {ID: state}. Unlike IDs, a filter does not fail for what EC2 does not know."""
    pages = client.get_paginator("describe_instances").paginate(Filters=[{"Name": name, "Values": values}])
    found = [instance for page in pages for group in page["Reservations"] for instance in group["Instances"]]
    return {
        instance["InstanceId"]: instance["State"]["Name"]
        for instance in found
        # Filters know wildcards.
        if name != f"tag:{RUN_ID}" or {"Key": RUN_ID, "Value": values[0]} in instance.get("Tags", [])
    }


class Ending:
    """The end of a run's instances; C(left) are those not known to be terminated, with their state seen last."""

    def __init__(self, client, run_id, clock=time.monotonic, sleep=time.sleep):
        self.client, self.run_id, self.clock, self.sleep = client, run_id, clock, sleep
        self.asked, self.left = [], {}

    def patiently(self, call, *passing):
        return patiently(call, (*BUSY, *passing), PATIENCE, self.clock, self.sleep)

    def terminate(self, name):
        """Ask for it. One that stays unknown is long gone; right after its launch it is unknown for a moment only."""
        self.left.setdefault(name, "not yet seen")
        self.asked.append(name)
        try:
            self.patiently(lambda: self.client.terminate_instances(InstanceIds=[name]), NOT_FOUND)
        except ClientError as error:
            if error_code(error) != NOT_FOUND:
                raise

    def look(self):
        """All of the run's instances, and those that were asked for: {ID: state}."""
        seen = self.patiently(lambda: search(self.client, f"tag:{RUN_ID}", [self.run_id]))
        hidden = [name for name in self.asked if name not in seen]
        if hidden:
            seen.update(self.patiently(lambda: search(self.client, "instance-id", hidden)))
        return seen

    def run(self, names, timeout):
        """Terminate these and what the account shows; whether all is over in time."""
        deadline = self.clock() + timeout
        self.left = dict.fromkeys(names, "not yet seen")
        for name in names:
            self.terminate(name)
        while True:
            self.left = {name: state for name, state in self.look().items() if state != "terminated"}
            for name, state in list(self.left.items()):
                if name not in self.asked and state != "shutting-down":
                    self.terminate(name)
            if not self.left:
                return True
            if self.clock() >= deadline:
                return False
            self.sleep(POLL_SECONDS)


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "instance_ids": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=False,
    )
    run_id, names, timeout = (module.params[key] for key in ("run_id", "instance_ids", "timeout"))
    strange = [name for name in names if not INSTANCE_ID.fullmatch(name)]
    if strange or not run_id:
        module.fail_json(msg=f"Nothing was terminated: {strange or 'an empty run_id'} is not what an ID looks like.")
    ending = Ending(module.client("ec2", config=NETWORK), run_id)
    try:
        over = ending.run(names, timeout)
    except (BotoCoreError, ClientError) as error:
        left = ", ".join(ending.left) or f"any instance of run {run_id}"
        module.fail_json_aws(error, msg=f"May still be running: {left}", left=list(ending.left))
    if not over:
        left = ", ".join(f"{name} (last seen: {state})" for name, state in ending.left.items())
        module.fail_json(msg=f"Not terminated within {timeout} s: {left}", left=list(ending.left))
    module.exit_json(changed=bool(ending.asked), instance_ids=ending.asked)


if __name__ == "__main__":
    main()
