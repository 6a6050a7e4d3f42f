"""The wait for an instance: what is waited out, what ends it, and what is said then."""

import pytest
from botocore.exceptions import ClientError

from ansible_collections.ec2_backup.ebs.plugins.modules import instance_wait

PARAMS = {
    "instance_id": "i-1",
    "zone": "us-east-1a",
    "address": "public",
    "device_name": "/dev/sdf",
    "timeout": 60,
}
UP = {
    "State": {"Name": "running"},
    "Placement": {"AvailabilityZone": "us-east-1a"},
    "PublicIpAddress": "203.0.113.7",
    "PrivateIpAddress": "10.0.0.7",
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-0"}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeId": "vol-1"}},
    ],
}


class Time:
    """Time that passes by sleeping only, and EC2 as it answers in that time: an instance, an error's code, or None."""

    def __init__(self, *answers):
        self.now, self.answers = 0.0, list(answers)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.1)

    def describe_instances(self, **wanted):
        assert wanted == {"InstanceIds": ["i-1"]}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer, "Message": ""}}, "DescribeInstances")
        return {"Reservations": [{"Instances": [answer]}] if answer else []}

    def wait(self, **changes):
        self.params = {**PARAMS, **changes}
        self.seen = instance_wait.wait(self, self.params, self.clock, self.sleep)
        return instance_wait.complaint(self.seen, self.params)


def test_it_is_waited_for_until_it_runs_and_has_its_address_and_its_volume():
    states = [
        "InvalidInstanceID.NotFound",
        None,
        "RequestLimitExceeded",
        {"State": {"Name": "pending"}},
        {**UP, "PublicIpAddress": None},
        {**UP, "BlockDeviceMappings": []},
        UP,
    ]
    time = Time(*states)
    assert time.wait() == ""
    assert time.answers == [UP]
    assert (time.seen["address"], time.seen["volume_id"]) == ("203.0.113.7", "vol-1")


def test_the_private_address_and_no_volume_can_be_asked_for():
    time = Time({**UP, "PublicIpAddress": None, "BlockDeviceMappings": []})
    assert time.wait(address="private", device_name=None) == ""
    assert (time.seen["address"], time.seen["volume_id"]) == ("10.0.0.7", "")


@pytest.mark.parametrize("state", ["shutting-down", "terminated", "stopping", "stopped"])
def test_a_state_that_cannot_become_running_ends_the_wait_at_once(state):
    time = Time({**UP, "State": {"Name": state}, "StateReason": {"Message": "Server.InternalError"}})
    complaint = time.wait()
    assert complaint.startswith("Instance i-1 did not come up within 60 s: waited for it to be running in us-east-1a")
    assert complaint.endswith(
        f"last seen: {state}, zone us-east-1a, address 203.0.113.7, volume vol-1, Server.InternalError."
    )
    assert time.now == 0


def test_another_zone_ends_the_wait_at_once():
    time = Time({**UP, "Placement": {"AvailabilityZone": "us-east-1b"}})
    assert "zone us-east-1b" in time.wait()
    assert time.now == 0


def test_what_never_comes_is_given_up_in_time():
    time = Time({"State": {"Name": "pending"}})
    assert time.wait().endswith("last seen: pending, zone none, address none, volume none.")
    assert 60 <= time.now < 62
    time = Time("InvalidInstanceID.NotFound")
    assert "unknown to EC2" in time.wait()
    time = Time("RequestLimitExceeded")
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        time.wait()
    assert 60 <= time.now < 62


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "RequestExpired", "InvalidInstanceID.Malformed"])
def test_what_will_not_pass_ends_the_wait_at_once(code):
    time = Time(code)
    with pytest.raises(ClientError, match=code):
        time.wait()
    assert time.now == 0
