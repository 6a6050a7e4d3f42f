"""The end of a run's instances: which are terminated, and for how long trouble is put up with."""

import pytest
from botocore.exceptions import ClientError

from ansible_collections.ec2_backup.ebs.plugins.modules.instance_end import Ending

MINE = [{"Key": "ec2-backup:run-id", "Value": "r1"}]
OTHERS = [{"Key": "ec2-backup:run-id", "Value": "r12"}]


def error(code):
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Call")


class Account:
    """Instances that take two looks to go, in time that passes by sleeping only. Calls fail as the test says."""

    def __init__(self, hidden=(), describe=(), terminate=(), **states):
        self.states = {name.replace("_", "-"): state for name, state in states.items()}
        self.hidden, self.tags = hidden, {}
        self.failures = {"describe": list(describe), "terminate": list(terminate)}
        self.terminated, self.now = [], 0.0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.1)

    def fail(self, action):
        codes = self.failures[action]
        if codes:
            raise error(codes[0] if codes[0] == "AccessDenied" else codes.pop(0))

    def terminate_instances(self, **wanted):
        self.fail("terminate")
        (name,) = wanted["InstanceIds"]
        if name not in self.states:
            raise error("InvalidInstanceID.NotFound")
        self.terminated.append(name)
        self.states[name] = "shutting-down"

    def get_paginator(self, operation):
        assert operation == "describe_instances"
        return self

    def paginate(self, **wanted):
        self.fail("describe")
        (asked,) = wanted["Filters"]
        by_id = asked["Name"] == "instance-id"
        found = [name for name in self.states if (name in asked["Values"] if by_id else name not in self.hidden)]
        instances = [
            {"InstanceId": name, "State": {"Name": self.states[name]}, "Tags": self.tags.get(name, MINE)}
            for name in found
        ]
        for name in found:
            self.states[name] = {"shutting-down": "terminated"}.get(self.states[name], self.states[name])
        return [{"Reservations": [{"Instances": [instance]}]} for instance in instances]


class Stubborn(Account):
    """Takes the call, and nothing happens."""

    def terminate_instances(self, **wanted):
        pass


def end(account, *names, timeout=60):
    """End run r1; return whether that is over, and the ending."""
    ending = Ending(account, "r1", account.clock, account.sleep)
    return ending.run(list(names), timeout), ending


@pytest.mark.parametrize("state", ["pending", "running", "stopping", "stopped"])
def test_what_carries_the_run_s_tag_is_terminated_in_whatever_state_it_is(state):
    account = Account(i_1=state)
    over, ending = end(account)
    assert (over, ending.left, ending.asked, account.terminated) == (True, {}, ["i-1"], ["i-1"])
    assert account.states == {"i-1": "terminated"}


def test_what_is_known_is_terminated_before_its_tag_is_to_be_seen():
    account = Account(i_1="pending", i_2="running", hidden=["i-1"])
    over, _ = end(account, "i-1")
    assert (over, account.terminated) == (True, ["i-1", "i-2"])


def test_another_run_s_instance_is_left_alone_even_if_a_wildcard_finds_it():
    account = Account(i_1="running")
    account.tags["i-1"] = OTHERS
    assert end(account)[0]
    assert account.terminated == []


def test_without_any_instance_nothing_is_asked_for():
    account = Account()
    assert end(account)[0]
    assert (account.terminated, account.now) == ([], 0)


def test_one_that_is_going_already_is_waited_for():
    account = Account(i_1="shutting-down")
    assert end(account)[0]
    assert account.terminated == []


def test_one_that_ec2_does_not_know_for_a_moment_is_asked_for_again_and_one_that_stays_unknown_is_gone():
    account = Account(i_1="running", terminate=["InvalidInstanceID.NotFound"] * 3)
    assert end(account, "i-1")[0]
    assert account.terminated == ["i-1"]
    assert end(Account(), "i-9")[0]


def test_where_the_account_cannot_be_looked_at_what_is_known_is_terminated_all_the_same_and_in_bounded_time():
    account = Account(i_1="running", describe=["RequestLimitExceeded"] * 1000)
    ending = Ending(account, "r1", account.clock, account.sleep)
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        ending.run(["i-1"], 600)
    assert (account.terminated, list(ending.left)) == (["i-1"], ["i-1"])
    assert 30 <= account.now < 32


def test_a_busy_moment_is_put_up_with():
    account = Account(i_1="running", describe=["InternalError"] * 3, terminate=["RequestLimitExceeded"] * 3)
    assert end(account, "i-1")[0]


def test_a_termination_that_is_denied_names_what_is_left():
    account = Account(i_1="running", terminate=["UnauthorizedOperation"])
    ending = Ending(account, "r1", account.clock, account.sleep)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        ending.run([], 600)
    assert (list(ending.left), account.now) == (["i-1"], 0)


def test_one_that_does_not_go_in_time_is_left():
    account = Stubborn(i_1="running")
    over, ending = end(account, timeout=5)
    assert (over, ending.left) == (False, {"i-1": "running"})
    assert 5 <= account.now < 7
