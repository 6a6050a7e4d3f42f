#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_remove
short_description: Remove what runs have left in the account
version_added: "0.1.0"
description:
  - Does what M(ec2_backup.ebs.run_look) has decided, first what detaches, then what terminates, then what deletes.
  - A failure with one thing does not keep the others, and is told with EC2's code. An instance stays while a volume
    that is to outlive it, but would die with it, cannot be detached from it.
  - Does not wait until an instance is terminated. The next look shows what is left.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  entries:
    description: What is to go, as M(ec2_backup.ebs.run_look) returns it. Nothing is done for a step to be waited for.
    type: list
    elements: dict
    required: true
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
- name: See what has expired
  ec2_backup.ebs.run_look:
  register: found

- name: Remove it
  ec2_backup.ebs.run_remove:
    entries: "{{ found.entries }}"
"""

RETURN = r"""
outcomes:
  description:
    - What became of each that was not to be waited for, with C(id), C(step), and C(error) and EC2's C(code), both empty
      if it worked.
  returned: success
  type: list
  elements: dict
"""

import contextlib

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    INSTANCE_ID,
    NETWORK,
    error_code,
    patiently,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.volume import (
    WaitTimeout,
    describe_volume,
    live_attachments,
    wait_for,
)

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError

PATIENCE = 15.0  # seconds; short, since whoever looks next tries again
DETACH_SECONDS = 60.0
BLOCKED = "not terminated: it would take a volume along that could not be detached from it"


def detach(client, entry):
    client.detach_volume(VolumeId=entry["id"], InstanceId=entry["instance_id"])


def wait_until_free(client, entry):
    """Until then the volume would still die with its instance."""
    wait_for(
        lambda seen: seen is None or not live_attachments(seen),
        "waiting for it to be detached from {instance_id}".format(**entry),
        DETACH_SECONDS,
        lambda: patiently(lambda: describe_volume(client, entry["id"]), BUSY, PATIENCE),
    )


def terminate(client, entry):
    if not INSTANCE_ID.fullmatch(entry["id"]):
        raise ValueError("not terminated: that is not an instance's ID")
    client.terminate_instances(InstanceIds=[entry["id"]])


def delete(client, entry):
    if entry["kind"] == "volume":
        client.delete_volume(VolumeId=entry["id"])
    else:
        client.delete_security_group(GroupId=entry["id"])


ACTS = {"detach": detach, "terminate": terminate, "delete": delete}  # in this order


def act(client, entry):
    """Do what an entry says; return its outcome."""
    outcome = {"id": entry["id"], "step": entry["step"], "error": "", "code": ""}
    try:
        patiently(lambda: ACTS[entry["step"]](client, entry), BUSY, PATIENCE)
        if entry["step"] == "detach":
            wait_until_free(client, entry)
    except (BotoCoreError, ClientError, WaitTimeout, ValueError) as error:
        outcome.update(error=str(error), code=error_code(error))
    return outcome


def remove(client, entries):
    """Do what the entries say, step by step; return the outcomes."""
    outcomes, blocked = [], set()
    for step in ACTS:
        for entry in (entry for entry in entries if entry["step"] == step):
            if step == "terminate" and entry["id"] in blocked:
                outcomes.append({"id": entry["id"], "step": step, "error": BLOCKED, "code": ""})
                continue
            outcomes.append(act(client, entry))
            if outcomes[-1]["error"] and entry.get("blocks"):
                blocked.add(entry["instance_id"])
    return outcomes


def main():
    module = AnsibleAWSModule(
        argument_spec={"entries": {"type": "list", "elements": "dict", "required": True}}, supports_check_mode=False
    )
    outcomes = remove(module.client("ec2", config=NETWORK), module.params["entries"])
    module.exit_json(changed=not all(outcome["error"] for outcome in outcomes), outcomes=outcomes)


if __name__ == "__main__":
    main()
