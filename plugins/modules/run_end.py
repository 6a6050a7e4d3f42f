#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_end
short_description: Remove what a run, or all that are past their expiry, have left in the account
version_added: "0.1.0"
description:
  - Terminates a run's instances and waits until they are terminated, deletes its uncommitted volumes and its security
    group, and detaches from the instances what must outlive them. A complete volume, one that was given to the run, and
    anything without a run's ID is never deleted.
  - What the account shows by the tag C(ec2-backup:run-id) counts, as a call may have failed after EC2 carried it out.
  - What fails is tried a few times more, and does not keep the others. It is not a failure of the module, but is
    returned in RV(left). Each call that EC2 is too busy for is tried again for 15 to 30 seconds, where the modules of
    amazon.aws try for five minutes.
  - What cannot be looked at counts as unknown, never as absent. An instance is not terminated while the volumes cannot
    be looked at, nor while a volume that must outlive it cannot be detached, except as described for O(instance_ids).
author:
  - The ec2-backup developers (@ec2-backup)
options:
  run_id:
    description: The run whose things are to go. Where it is empty, those of all runs that are past their expiry.
    type: str
    default: ""
  instance_ids:
    description:
      - Instances that are known to be the run's, in case their tag is not visible yet. Only with O(run_id).
      - They are terminated even if the account cannot be looked at.
    type: list
    elements: str
    default: []
  complete_volume_ids:
    description:
      - Volumes that the run has tagged as complete, in case a look at the account does not show that tag yet. They are
        never deleted.
    type: list
    elements: str
    default: []
  security_groups:
    description: Whether to look for security groups. Set it to V(false) for a run that has made none.
    type: bool
    default: true
  looks:
    description:
      - How often to look at the account at least. A call that was in flight when its caller died may still make an
        instance.
    type: int
    default: 1
  interval:
    description:
      - Seconds between these looks, and before a first repetition of what has failed; doubled with each further one.
    type: int
    default: 2
  timeout:
    description: Seconds after which it does not look again. What is not gone by then is left.
    type: int
    default: 600
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Looks once, and returns in RV(would) what would go.
    support: full
"""

EXAMPLES = r"""
- name: Make sure that nothing of the run is left
  ec2_backup.ebs.run_end:
    run_id: 20261122t184500z-1f2e3d4c
    instance_ids: [i-0123456789abcdef0]
    complete_volume_ids: [vol-0123456789abcdef0]
  register: ended

- name: Check that nothing of the run is left
  ansible.builtin.assert:
    that:
      - ended.left | length == 0
      - ended.trouble | length == 0

- name: Remove what has expired
  ec2_backup.ebs.run_end:
"""

RETURN = r"""
removed:
  description:
    - What was removed, each with C(kind), C(id), C(action) (C(terminated), C(deleted) or C(detached)) and C(run_id).
  returned: success
  type: list
  elements: dict
left:
  description: What could not be removed, or is not gone yet, each with C(why) in addition.
  returned: success
  type: list
  elements: dict
kept:
  description: What would have to go, but is in use by somebody else, each with C(why) in addition.
  returned: success
  type: list
  elements: dict
would:
  description: In check mode what would be removed; else empty.
  returned: success
  type: list
  elements: dict
complete:
  description: The volumes that the run has completed and that no instance has.
  returned: success
  type: list
  elements: str
trouble:
  description:
    - Why the account could not be looked at in the end; empty if it could. If not, more may be left than is listed.
  returned: success
  type: str
lines:
  description: RV(removed), RV(left), RV(kept) and RV(would) for people, a line for each thing.
  returned: success
  type: dict
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.ending import Ending
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import INSTANCE_ID, NETWORK


def mistake(params):
    """Return what is wrong with the parameters, in words; empty if nothing is."""
    strange = [name for name in params["instance_ids"] if not INSTANCE_ID.fullmatch(name)]
    if strange:
        return f"Nothing was terminated: {strange[0]!r} in instance_ids is not what an instance's ID looks like."
    if params["instance_ids"] and not params["run_id"]:
        return "Nothing was terminated: instance_ids needs the run_id that they belong to."
    negative = [name for name in ("looks", "interval", "timeout") if params[name] < 0]
    return f"{negative[0]} must not be negative." if negative else ""


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "run_id": {"type": "str", "default": ""},
            "instance_ids": {"type": "list", "elements": "str", "default": []},
            "complete_volume_ids": {"type": "list", "elements": "str", "default": []},
            "security_groups": {"type": "bool", "default": True},
            "looks": {"type": "int", "default": 1},
            "interval": {"type": "int", "default": 2},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    wrong = mistake(params)
    if wrong:
        module.fail_json(msg=wrong)
    ending = Ending(
        module.client("ec2", config=NETWORK),
        params["run_id"],
        params["instance_ids"],
        params["complete_volume_ids"],
        params["security_groups"],
        dry=module.check_mode,
    )
    result = ending.run(params["looks"], params["interval"], params["timeout"]).result(module.check_mode)
    module.exit_json(changed=bool(result["removed"] or result["would"]), **result)


if __name__ == "__main__":
    main()
