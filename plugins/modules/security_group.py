#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: security_group
short_description: A security group that lets one address in by SSH
version_added: "0.1.0"
description:
  - Makes a security group with a single rule, TCP port 22 from O(cidr). M(ec2_backup.ebs.run_end) deletes it.
  - M(amazon.aws.ec2_security_group) waits three seconds after the creation, and lists all groups of the account.
author:
  - The ec2-backup developers (@ec2-backup)
options:
  name:
    description: The group's name. One of this name and VPC that is there already is taken over.
    type: str
    required: true
  vpc_id:
    description: The VPC.
    type: str
    required: true
  description:
    description: What it is for.
    type: str
    required: true
  cidr:
    description: Who may come in, such as V(203.0.113.7/32).
    type: str
    required: true
  rule_description:
    description: What the rule is for.
    type: str
  tags:
    description: The group's tags, set as it is made.
    type: dict
    default: {}
  timeout:
    description: The seconds for which a call that EC2 is too busy for is tried again.
    type: int
    default: 60
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description:
      - Asks EC2 to check the same call, and to do nothing (C(DryRun)). The rule is not checked, having no group yet.
    support: full
"""

EXAMPLES = r"""
- name: Let this host in
  ec2_backup.ebs.security_group:
    name: ec2-backup-20261122t184500z-1f2e3d4c
    description: One run of ec2-backup
    vpc_id: vpc-0123456789abcdef0
    cidr: 203.0.113.7/32
"""

RETURN = r"""
group_id:
  description: The group; an empty string in check mode if there is none yet.
  returned: success
  type: str
"""

import contextlib

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import (
    BUSY,
    error_code,
    patiently,
    rehearse,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.group import group_request

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it.
    from botocore.exceptions import BotoCoreError, ClientError


def find(client, name, vpc_id):
    """Return the group's ID, or an empty string."""
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc_id]}]
    found = client.describe_security_groups(Filters=filters)["SecurityGroups"]
    return found[0]["GroupId"] if found else ""


def create(client, params):
    """Make the group; return (changed, its ID)."""
    try:
        return True, client.create_security_group(**group_request(params))["GroupId"]
    except ClientError as error:
        # A call whose reply was lost is sent again, and then refused for what it did itself.
        if error_code(error) != "InvalidGroup.Duplicate":
            raise
    return False, find(client, params["name"], params["vpc_id"])


def let_in(client, group_id, params):
    """Add the rule; return whether that changed anything."""
    source = {"CidrIp": params["cidr"]}
    if params["rule_description"]:
        source["Description"] = params["rule_description"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [source]}
    try:
        client.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
    except ClientError as error:
        if error_code(error) != "InvalidPermission.Duplicate":
            raise
        return False
    return True


def present(client, params):
    """Make the group and its rule as far as they are missing; return (changed, group ID)."""
    changed, group_id = patiently(lambda: create(client, params), BUSY, params["timeout"])
    # EC2 may not know at once what it has just made.
    passing = (*BUSY, "InvalidGroup.NotFound")
    return patiently(lambda: let_in(client, group_id, params), passing, params["timeout"]) or changed, group_id


def present_checked(client, params):
    """Return what ``present`` would, and change nothing."""
    found = find(client, params["name"], params["vpc_id"])
    if not found:
        patiently(lambda: rehearse(client.create_security_group, **group_request(params)), BUSY, params["timeout"])
    return not found, found


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "vpc_id": {"type": "str", "required": True},
            "description": {"type": "str", "required": True},
            "cidr": {"type": "str", "required": True},
            "rule_description": {"type": "str"},
            "tags": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    act = present_checked if module.check_mode else present
    try:
        changed, group_id = act(module.client("ec2"), module.params)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Security group {} could not be made".format(module.params["name"]))
    module.exit_json(changed=changed, group_id=group_id)


if __name__ == "__main__":
    main()
