#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_look
short_description: Look what runs have left in the account, and decide what is to become of it
version_added: "0.1.0"
description:
  - Looks at the instances, volumes and security groups that carry a run's ID, and at who uses these groups.
  - Looks again each second while there is nothing to do but to wait, such as for an instance that is shutting down.
  - A look that fails is told, and what it should have shown counts as unknown, not as absent. Each is bounded, where
    the C(_info) modules of amazon.aws try a throttled call again for five minutes.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  run_id:
    description: The run whose things are to go. Where it is empty, those of all runs that are past their expiry.
    type: str
    default: ""
  looks:
    description: How often to look at least where there is nothing.
    type: int
    default: 1
  interval:
    description: Seconds between these looks.
    type: int
    default: 2
  pause:
    description: Seconds to wait before the first look.
    type: int
    default: 0
  timeout:
    description: Seconds for which to look again.
    type: int
    default: 0
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: See what has expired
  ec2_backup.ebs.run_look:
  register: found

- name: Show it
  ansible.builtin.debug:
    var: found.entries
"""

RETURN = r"""
entries:
  description:
    - What is to go, with C(kind), C(id), C(action), C(run_id) and C(step).
    - A C(step) is C(detach), C(terminate) or C(delete), to be done in that order by M(ec2_backup.ebs.run_remove), or
      C(follow) or C(watch), to be waited for.
  returned: success
  type: list
  elements: dict
kept:
  description: What would have to go, but is in use by somebody else.
  returned: success
  type: list
  elements: dict
complete:
  description: The volumes that the run has completed and that no instance has; null if the volumes were not seen.
  returned: success
  type: list
  elements: str
errors:
  description:
    - What could not be seen, C(instances), C(volumes), C(groups) or C(users), each with C(msg) and EC2's C(code).
  returned: success
  type: dict
looks:
  description: How often it has looked.
  returned: success
  type: int
"""

import contextlib
import time

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    NETWORK,
    POLL_SECONDS,
    error_code,
    patiently,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import RUN_ID, has_work, plan

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 20.0  # seconds of nothing but errors that may pass, for all of one look
MOST_VALUES = 200  # in one filter


def snake(thing):
    """A thing of EC2's as Ansible writes it."""
    tags = boto3_tag_list_to_ansible_dict(thing.get("Tags", []))
    return {**camel_dict_to_snake_dict({key: thing[key] for key in thing if key != "Tags"}), "tags": tags}


class Look:
    """One look at the account: what C(plan) decides on, and C(errors)."""

    def __init__(self, client, run_id, clock=time.monotonic, sleep=time.sleep):
        self.client, self.clock, self.sleep = client, clock, sleep
        self.filters = [
            {"Name": f"tag:{RUN_ID}", "Values": [run_id]} if run_id else {"Name": "tag-key", "Values": [RUN_ID]}
        ]
        self.deadline = clock() + PATIENCE
        self.errors = {}
        self.seen = {kind: self.at(kind, getattr(self, kind)) for kind in ("instances", "volumes", "groups")}
        self.seen["users"] = self.at("users", lambda: self.users(run_id))

    def at(self, kind, look):
        """What a look returns, or None if that failed."""
        try:
            return patiently(look, BUSY, max(0.0, self.deadline - self.clock()), self.clock, self.sleep)
        except (BotoCoreError, ClientError) as error:
            self.errors[kind] = {"msg": f"{kind}: {error}", "code": error_code(error)}
            return None

    def pages(self, operation, key, filters):
        pages = self.client.get_paginator(operation).paginate(Filters=filters)
        return [item for page in pages for item in page[key]]

    def instances(self, filters=None):
        reservations = self.pages("describe_instances", "Reservations", filters or self.filters)
        return [snake(instance) for reservation in reservations for instance in reservation["Instances"]]

    def volumes(self):
        found = self.pages("describe_volumes", "Volumes", self.filters)
        return [snake(volume) for volume in found]

    def groups(self):
        return [snake(group) for group in self.pages("describe_security_groups", "SecurityGroups", self.filters)]

    def users(self, run_id):
        """The instances that use a group that is to go, whosever they are."""
        names = [entry["id"] for entry in plan(self.seen, run_id)["entries"] if entry["kind"] == "security-group"]
        parts = [names[start : start + MOST_VALUES] for start in range(0, len(names), MOST_VALUES)]
        return [user for part in parts for user in self.instances([{"Name": "instance.group-id", "Values": part}])]


def watch(client, params, clock=time.monotonic, sleep=time.sleep):
    """Look until there is something to do, nothing to wait for, or no time left; return the module's result."""
    deadline, looks = clock() + params["timeout"], 0
    sleep(params["pause"])
    while True:
        look = Look(client, params["run_id"], clock, sleep)
        looks += 1
        planned = plan(look.seen, params["run_id"])
        waits = bool(planned["entries"]) or looks < params["looks"]
        if look.errors or has_work(planned) or not waits or clock() >= deadline:
            return {**planned, "errors": look.errors, "looks": looks}
        sleep(POLL_SECONDS if planned["entries"] else params["interval"])


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "run_id": {"type": "str", "default": ""},
            "looks": {"type": "int", "default": 1},
            "interval": {"type": "int", "default": 2},
            "pause": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        result = watch(module.client("ec2", config=NETWORK), module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
