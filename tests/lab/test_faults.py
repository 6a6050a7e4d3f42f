"""Faults. Error codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""

from __future__ import annotations

import subprocess
import time

import pytest
from botocore.exceptions import ConnectionClosedError, HTTPClientError

from lab.api.faults import Fault, due, fault
from tests.lab.harness import Lab, code_of, wait_for


def test_only_the_nth_call_after_the_entry_appeared_fails(lab: Lab) -> None:
    entry = {"action": "DescribeVolumes", "nth": 2, "code": "InternalError"}
    lab.ec2.describe_volumes()
    lab.set_faults({"api": [entry]})
    assert [code_of(lab.ec2.describe_volumes)[0] for _ in range(3)] == ["", "InternalError", ""]
    assert [call["status"] for call in lab.calls()[-3:]] == [200, 500, 200]
    assert [call.get("fault") for call in lab.calls()[-3:]] == [None, "instead", None]


def test_calls_are_throttled_until_the_entry_is_removed(lab: Lab) -> None:
    lab.set_faults({"api": [{"action": "*", "always": True, "code": "RequestLimitExceeded"}]})
    assert [code_of(lab.ec2.describe_volumes)[0] for _ in range(2)] == ["RequestLimitExceeded"] * 2
    assert lab.calls()[-1]["status"] == 503
    lab.set_faults({})
    assert code_of(lab.ec2.describe_volumes)[0] == ""


def test_botocore_retries_a_throttled_call_as_with_ec2(lab: Lab) -> None:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""
    lab.set_faults({"api": [{"action": "DescribeVolumes", "times": 2, "code": "RequestLimitExceeded"}]})
    assert code_of(lab.client("ec2", retries=4).describe_volumes)[0] == ""


def test_a_call_can_be_slow(lab: Lab) -> None:
    lab.set_faults({"api": [{"action": "DescribeVolumes", "delay": 0.5}]})
    started = time.monotonic()
    lab.ec2.describe_volumes()
    assert time.monotonic() - started > 0.5


def test_a_call_can_take_effect_although_its_reply_is_lost(lab: Lab) -> None:
    group = {"GroupName": "lost", "Description": "lost"}
    lab.set_faults({"api": [{"action": "CreateSecurityGroup", "after": True, "drop": True}]})
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        lab.ec2.create_security_group(**group)
    assert code_of(lab.ec2.create_security_group, **group)[0] == "InvalidGroup.Duplicate"


def test_without_capacity_nothing_is_launched(lab: Lab) -> None:
    before = len(lab.ec2.describe_instances()["Reservations"])
    lab.set_faults({"api": [{"action": "RunInstances", "code": "InsufficientInstanceCapacity"}]})
    call = {"ImageId": lab.ami(), "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    assert code_of(lab.ec2.run_instances, **call)[0] == "InsufficientInstanceCapacity"
    assert len(lab.ec2.describe_instances()["Reservations"]) == before


def test_sshd_does_not_start_if_the_faults_say_so(lab: Lab) -> None:
    lab.set_faults({"sshd": "never"})
    instance = lab.launch()
    address = lab.wait_state(instance, "running")["PublicIpAddress"]
    console = lab.state / "instances" / instance / "console.log"
    wait_for(lambda: console.exists() and "sshd: not started" in console.read_text(), "the boot to get there")
    assert "refused" in lab.ssh(address, "true").stderr


@pytest.mark.parametrize("limit", [{"drop_sshd_after_bytes": 3_000_000}, {"drop_sshd_after_seconds": 0.5}])
def test_sshd_can_be_ended_in_the_middle_of_a_stream(lab: Lab, limit: dict[str, float]) -> None:
    address = lab.login(lab.launch())
    lab.set_faults(limit)
    with open("/dev/zero", "rb") as endless:
        result = subprocess.run(
            [*lab.ssh_argv(address), "cat >/dev/null"], stdin=endless, capture_output=True, check=False, timeout=20
        )
    assert result.returncode == 255
    assert "refused" in lab.ssh(address, "true").stderr, "sshd itself has ended too"


def test_an_entry_says_to_which_calls_it_applies() -> None:
    assert [due({"nth": 2}, count) for count in (1, 2, 3)] == [False, True, False]
    assert [due({"times": 2}, count) for count in (1, 2, 3)] == [True, True, False]
    assert [due({}, count) for count in (1, 2)] == [True, False]
    assert due({"always": True}, 99)
    assert fault({"code": "Unavailable"}) == Fault("Unavailable", 503, "Unavailable: a fault was asked for")
