"""The run's security group: what is retried, what is taken as done, and for how long."""

import functools

import pytest
from botocore.exceptions import ClientError

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.errors import BUSY, patiently
from ansible_collections.ec2_backup.ebs.plugins.modules import security_group

PARAMS = {
    "name": "ec2-backup-r1",
    "vpc_id": "vpc-1",
    "description": "one run",
    "cidr": "1.2.3.4/32",
    "rule_description": "",
    "tags": {"ec2-backup:run-id": "r1"},
    "timeout": 0,
}


def error(code):
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Call")


class Account:
    """An account with at most one group, whose calls fail as the test says: action → codes, one a call."""

    def __init__(self, group_id="", **failures):
        self.group_id, self.failures, self.rules = group_id, failures, []

    def _call(self, action):
        codes = self.failures.get(action, [])
        if codes:
            raise error(codes.pop(0))

    def create_security_group(self, **wanted):
        self._call("create")
        self.group_id = "sg-1"
        return {"GroupId": self.group_id}

    def authorize_security_group_ingress(self, **wanted):
        self._call("authorize")
        self.rules.append(wanted["IpPermissions"][0])

    def describe_security_groups(self, **wanted):
        self._call("describe")
        return {"SecurityGroups": [{"GroupId": self.group_id}] if self.group_id else []}


class Clock:
    """Time that passes by sleeping only."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0.1)


def test_a_group_has_one_rule_for_one_address():
    account = Account()
    assert security_group.present(account, PARAMS) == (True, "sg-1")
    assert account.rules == [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "1.2.3.4/32"}]}
    ]


@pytest.mark.parametrize("code", ["InvalidPermission.Duplicate", None])
def test_a_group_whose_creation_was_not_answered_is_taken_over(code):
    account = Account("sg-7", create=["InvalidGroup.Duplicate"], authorize=[code] if code else [])
    assert security_group.present(account, PARAMS) == (code is None, "sg-7")


def test_a_group_that_ec2_does_not_know_yet_is_waited_for(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(security_group, "patiently", functools.partial(patiently, clock=clock, sleep=clock.sleep))
    account = Account(create=["RequestLimitExceeded"] * 2, authorize=["InvalidGroup.NotFound"] * 3)
    assert security_group.present(account, {**PARAMS, "timeout": 60}) == (True, "sg-1")
    assert len(account.rules) == 1


def test_what_passes_is_tried_again_and_what_does_not_is_raised_at_once():
    clock, account = Clock(), Account(authorize=["InvalidGroup.NotFound"] * 3)
    passing = (*BUSY, "InvalidGroup.NotFound")

    def let_in():
        account.authorize_security_group_ingress(IpPermissions=[{}])

    patiently(let_in, passing, 60, clock, clock.sleep)
    assert len(account.rules) == 1
    account = Account(authorize=["UnauthorizedOperation"])
    before = clock.now
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        patiently(let_in, passing, 60, clock, clock.sleep)
    assert clock.now == before


def test_what_never_passes_is_given_up_in_time():
    clock, account = Clock(), Account(describe=["RequestLimitExceeded"] * 1000)
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        patiently(account.describe_security_groups, BUSY, 30, clock, clock.sleep)
    assert 30 <= clock.now < 31
