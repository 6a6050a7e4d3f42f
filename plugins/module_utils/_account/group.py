# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The security group of a run, as EC2 is asked for it."""

from __future__ import annotations

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_specifications


def group_request(group: Any) -> dict[str, Any]:
    """Return the arguments of CreateSecurityGroup.

    :param group: ``name``, ``description``, ``vpc_id`` and ``tags``, which may be empty.
    """
    wanted = {"GroupName": group["name"], "Description": group["description"], "VpcId": group["vpc_id"]}
    if group["tags"]:
        wanted["TagSpecifications"] = boto3_tag_specifications(group["tags"], ["security-group"])
    return wanted
