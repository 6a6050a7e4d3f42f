"""What a user sees of AWS's errors in whole runs; tests/unit/test_messages.py has all of the errors."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import POLICY, QUICK, Done, Lab

RUNNER = "./ec2_backup_runner.py"
KEYS = ("-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def narrow(make_lab, tmp_path: Path) -> Lab:
    """Return a lab whose policy allows neither to look at volumes nor to ask for an image."""
    policy = json.loads(POLICY.read_text())
    policy["Statement"] = [each for each in policy["Statement"] if each["Sid"] != "FindTheImage"]
    policy["Statement"][0]["Action"].remove("ec2:DescribeVolumes")
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    lab: Lab = make_lab(**{**QUICK, "EC2_LAB_POLICY": str(tmp_path / "policy.json")})
    return lab


def said(done: Done) -> str:
    """The one line of a command that failed, without the name of its log."""
    assert (done.rc, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done
    line, log = done.stderr.removesuffix(")\n").split(" (log: ")
    assert Path(log).is_file()
    return line.removeprefix("ec2-backup: error: ")


def test_an_error_that_keeps_aws_from_answering_is_explained_with_what_to_do(narrow, tmp_path):
    state = str(tmp_path / "state")

    def listed(*environment: str) -> str:
        return said(narrow.run("env", *environment, RUNNER, "list", XDG_STATE_HOME=state))

    assert "there are no AWS credentials. Run `aws configure` or" in listed(*KEYS)
    assert "no AWS region is configured. Name one: --region, " in listed("-u", "AWS_REGION", "-u", "AWS_DEFAULT_REGION")
    assert "there is no AWS profile nope on this host. `aws configure list-" in listed(*KEYS, "AWS_PROFILE=nope")
    assert "http://127.0.0.1:9/ could not be reached. Check AWS_ENDPOINT" in listed(
        "AWS_ENDPOINT_URL=http://127.0.0.1:9"
    )
    # amazon.aws.ec2_vol_info does not return EC2's error (docs/amazon-aws.md).
    assert "you are not authorised for ec2:DescribeVolumes, or EC2 was too busy to answer" in listed()

    (tmp_path / "data").mkdir()
    denied = "You are not authorised for ssm:GetParameter on /aws/service/ami-amazon-linux-latest/al2023"
    assert denied in said(narrow.backup(tmp_path / "data", XDG_STATE_HOME=state))
    assert narrow.calls("RunInstances") == []
    logs = [path.read_text() for path in (tmp_path / "state").rglob("*.log")]
    assert len(logs) == 6
    assert not any("PRIVATE KEY" in log or "bPxRfiCYEXAMPLEKEY" in log for log in logs)
