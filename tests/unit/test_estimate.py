"""What a backup would make, and about what it costs."""

from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.catalog import LIST_PRICES
from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.estimate import INSTANCE_PRICES, backup_plan, cost

GP3 = {"type": "gp3", "size_gib": 3, "iops": None, "throughput": None}
CHOSEN = {"instance_type": "t3.small", "subnet_id": "subnet-a", "zone": "us-east-1a"}
FACTS: dict[str, Any] = {
    "source": {"host": "web1", "path": "/srv", "archive_bytes": 1048576, "source_warnings_count": 0, "selection": {}},
    "plan": {
        "stream": {"local_filter": "", "remote_filter": "", "read_back": False},
        "volume": {
            "given": False,
            "volume_id": "",
            "size_gib": 3,
            "zone": "",
            "mapping": {"device_name": "/dev/sdf", "ebs": {"volume_type": "gp3", "volume_size": 3, "encrypted": True}},
        },
        "user_tags": {"Name": "ec2-backup web1:/srv"},
        "instance": {
            "image_id": "ami-1",
            "vpc_id": "vpc-1",
            "candidates": [
                CHOSEN,
                {**CHOSEN, "subnet_id": "subnet-b", "zone": "us-east-1b"},
                {**CHOSEN, "instance_type": "t3a.small"},
            ],
            "security_group_ids": [],
            "address": "public",
        },
    },
    "found": {},
    "client_address": "203.0.113.7",
    "permissions": {
        "candidate": CHOSEN,
        "region": "us-east-1",
        "allowed": ["ec2:RunInstances", "ec2:CreateSecurityGroup", "ec2:TerminateInstances"],
        "unsure": [{"permission": "ec2:CreateTags", "code": "InvalidVolume.NotFound"}],
    },
}


def facts(found=None, permissions=None, **plan):
    """The facts, with other ones of the plan in the place of some."""
    changed = {key: {**FACTS["plan"][key], **value} for key, value in plan.items()}
    return {
        **FACTS,
        "plan": {**FACTS["plan"], **changed},
        "found": found or {},
        "permissions": {**FACTS["permissions"], **(permissions or {})},
    }


def test_a_run_costs_its_instance_and_its_address_by_the_hour_and_the_volume_by_the_month():
    told = cost(GP3, "t3.small", True)
    assert told["volume_per_month"] == round(3 * LIST_PRICES["gp3"], 2)
    assert told["run_per_hour"] == pytest.approx(INSTANCE_PRICES["t3.small"] + 0.005)
    assert (told["prices_of"], told["run_seconds_least"]) == ("us-east-1", 60)
    assert cost(GP3, "t3.small", False)["run_per_hour"] == INSTANCE_PRICES["t3.small"]


def test_what_there_is_no_price_of_has_none():
    told = cost({**GP3, "type": "gp9"}, "m7i.large", True)
    assert (told["volume_per_month"], told["instance_per_hour"], told["run_per_hour"]) == (None, None, None)
    assert told["address_per_hour"] == 0.005


def test_prices_of_volumes_can_be_given():
    told = cost(GP3, "t3.small", True, {"gp3": 0.1})
    assert (told["volume_per_month"], told["volume_prices_given"]) == (0.3, True)
    with pytest.raises(ValueError, match="ec2_backup_catalog_prices"):
        cost(GP3, "t3.small", True, {"gp3": "free"})


def test_the_default_type_has_a_price():
    assert "t3.small" in INSTANCE_PRICES


def test_a_new_volume_is_planned_as_the_launch_asks_for_it():
    plan = backup_plan(FACTS)
    assert plan["volume"] == {
        "id": None,
        "size_gib": 3,
        "type": "gp3",
        "iops": None,
        "throughput": None,
        "encrypted": True,
        "kms_key_id": None,
    }
    assert plan["source"] == {"host": "web1", "path": "/srv"}
    assert (plan["zone"], plan["other_zones"]) == ("us-east-1a", ["us-east-1b"])
    assert (plan["instance_type"], plan["other_instance_types"]) == ("t3.small", ["t3a.small"])
    assert (plan["security_group_ids"], plan["lets_in"]) == (None, "203.0.113.7/32")
    assert plan["allowed"] == ["ec2:RunInstances", "ec2:CreateSecurityGroup", "ec2:TerminateInstances"]


def test_a_given_volume_is_planned_as_it_is():
    found = {"volume_type": "io2", "iops": 200, "throughput": 0, "encrypted": False}
    volume = {"given": True, "volume_id": "vol-1", "size_gib": "8", "zone": "us-east-1a"}
    plan = backup_plan(facts(found, volume=volume, instance={"security_group_ids": ["sg-1"]}))
    assert plan["volume"] == {
        "id": "vol-1",
        "size_gib": 8,
        "type": "io2",
        "iops": 200,
        "throughput": None,
        "encrypted": False,
        "kms_key_id": None,
    }
    assert plan["cost"]["volume_per_month"] == round(8 * LIST_PRICES["io2"] + 200 * LIST_PRICES["io2-iops"], 2)
    assert (plan["security_group_ids"], plan["lets_in"]) == (["sg-1"], None)
