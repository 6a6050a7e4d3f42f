"""`--dry-run`: EC2 checks everything, and makes nothing."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Lab

READING = ("Describe", "Get", "List")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def asked(lab: Lab) -> list[str]:
    """The actions so far that could have changed something; one that was not a dry run fails the test."""
    calls = [json.loads(line) for line in (lab.state / "calls.jsonl").read_text().splitlines()]
    changing = [call for call in calls if not call["action"].startswith(READING)]
    assert [call for call in changing if call["parameters"].get("DryRun") != "true"] == []
    return [call["action"] for call in changing]


def test_a_dry_run_prints_the_plan_and_makes_nothing_at_all(quick, data, tmp_path):
    scratch, state = tmp_path / "scratch", tmp_path / "state"
    scratch.mkdir()
    done = quick.backup("--dry-run", data, TMPDIR=str(scratch), XDG_STATE_HOME=str(state))
    assert (done.rc, done.stderr) == (0, ""), done
    shown = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert shown["volume"].strip() == "new, 1 GiB, gp3, encrypted"
    assert shown["volume costs"].strip() == "0.08 USD a month"
    assert shown["a run costs"].strip().startswith("0.0258 USD an hour (t3.small 0.0208 + ")
    assert asked(quick) == [
        "CreateSecurityGroup",
        "RunInstances",
        "AuthorizeSecurityGroupIngress",
        "CreateTags",
        "DetachVolume",
        "TerminateInstances",
        "DeleteSecurityGroup",
    ]
    (launch,) = quick.calls("RunInstances")
    assert launch["error"] == "DryRunOperation"
    assert launch["parameters"]["BlockDeviceMapping.1.Ebs.VolumeSize"] == "1"
    assert launch["parameters"]["TagSpecification.1.ResourceType"] == "instance"
    quick.assert_nothing_left()
    assert list(scratch.iterdir()) == []
    assert not state.exists()


def test_a_permission_that_is_missing_is_named_and_nothing_is_made(quick, data, tmp_path):
    volume = quick.make_volume()
    (quick.state / "calls.jsonl").write_text("")
    quick.break_api({"action": "RunInstances", "always": True, "code": "UnauthorizedOperation"})
    done = quick.backup("--dry-run", "-v", volume, data, TMPDIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    assert (done.rc, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done
    assert "RunInstances" in done.stderr
    assert asked(quick) == ["CreateSecurityGroup", "RunInstances"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("ec2-backup")]
    quick.assert_nothing_left(volume)
