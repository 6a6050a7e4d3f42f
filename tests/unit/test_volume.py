"""Waiting for EC2 to say what is wanted of a volume."""

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.volume import (
    WaitTimeout,
    describe_state,
    live_attachments,
    wait_for,
)

ATTACHING = {
    "State": "in-use",
    "Attachments": [{"State": "attaching", "InstanceId": "i-1", "Device": "/dev/sdf"}],
}
ATTACHED = {
    "State": "in-use",
    "Attachments": [{"State": "attached", "InstanceId": "i-1", "Device": "/dev/sdf"}],
}


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_the_wait_ends_with_the_look_that_saw_the_condition():
    looks = iter([ATTACHING, ATTACHING, ATTACHED])
    clock = Clock()
    seen = wait_for(lambda v: v == ATTACHED, "it", 60, lambda: next(looks), clock=clock, sleep=clock.sleep)
    assert seen == ATTACHED
    assert clock.now == 2


def test_a_wait_that_is_in_vain_says_what_was_waited_for_and_what_was_seen_last():
    clock = Clock()
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda v: False, "waiting for vol-1", 5, lambda: ATTACHING, clock=clock, sleep=clock.sleep)
    assert str(caught.value) == (
        "waiting for vol-1: not so after 5 s; last seen: in-use, attaching to i-1 as /dev/sdf."
    )
    assert clock.now == 5


def test_a_volume_that_is_gone_is_called_so():
    assert describe_state(None) == "gone"


def test_an_attachment_that_is_over_does_not_bind_the_volume():
    assert live_attachments({"Attachments": [{"State": "detached"}]}) == []
