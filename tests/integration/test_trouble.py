"""AWS in trouble, and signals: what becomes of a backup then."""

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def test_a_zone_without_capacity_is_passed_over_for_the_next(lab, data):
    lab.break_api({"action": "RunInstances", "times": 1, "code": "InsufficientInstanceCapacity"})
    done = lab.backup(data, AWS_MAX_ATTEMPTS="1")
    assert done.rc == 0, done
    lab.assert_nothing_left(done.volume_id)
    assert {instance["Placement"]["AvailabilityZone"] for instance in lab.instances()} == {"us-east-1b"}


def test_no_capacity_for_a_type_in_any_zone_leads_to_the_alternative_type(lab, data):
    volume = lab.make_volume()
    lab.break_api({"action": "RunInstances", "times": 1, "code": "InsufficientInstanceCapacity"})
    alternatives = 'ec2_backup_instance_type_alternatives=["t3a.small"]'
    done = lab.backup("-v", volume, "-e", alternatives, data, AWS_MAX_ATTEMPTS="1")
    assert done.rc == 0, done
    assert {instance["InstanceType"] for instance in lab.instances()} == {"t3a.small"}


def test_no_capacity_anywhere_is_told_in_ec2s_words(lab, data):
    volume = lab.make_volume()
    lab.break_api({"action": "RunInstances", "always": True, "code": "InsufficientInstanceCapacity"})
    done = lab.backup("-v", volume, data)
    assert (done.rc, done.stdout) == (1, ""), done
    assert "InsufficientInstanceCapacity" in done.stderr
    lab.assert_nothing_left(volume)
