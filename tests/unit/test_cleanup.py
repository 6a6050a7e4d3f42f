"""What a cleanup takes, what it leaves alone, and when it ends."""

import datetime
import itertools
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import expired, has_work, plan, progress

NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
PAST, FUTURE = "2026-11-22T11:59:59Z", "2026-11-22T12:00:01Z"


def tags(run_id="r1", expires=PAST, status="writing", **more):
    found = {"run-id": run_id, "expires": expires, "status": status, **more}
    return {f"ec2-backup:{key}": value for key, value in found.items() if value}


def instance(name="i-1", state="running", mappings=(), groups=(), **more):
    """An instance; a mapping is (device, volume, delete on termination)."""
    return {
        "instance_id": name,
        "state": {"name": state},
        "root_device_name": "/dev/xvda",
        "block_device_mappings": [
            {"device_name": device, "ebs": {"volume_id": volume, "delete_on_termination": dies}}
            for device, volume, dies in mappings
        ],
        "security_groups": [{"group_id": group} for group in groups],
        "tags": more["tags"] if "tags" in more else tags(),
    }


def volume(name="vol-1", on=(), status="", **more):
    return {
        "volume_id": name,
        "state": status or ("in-use" if on else "available"),
        "attachments": [{"instance_id": holder, "state": "attached"} for holder in on],
        "tags": more["tags"] if "tags" in more else tags(),
    }


def group(name="sg-1", label="ec2-backup-r1", **more):
    return {
        "group_id": name,
        "group_name": label,
        "vpc_id": "vpc-1",
        "tags": more["tags"] if "tags" in more else tags(status=""),
    }


def decide(run_id="r1", now=NOW, **look):
    return plan({"instances": [], "volumes": [], "groups": [], **look}, run_id, now)


def steps(run_id="r1", **look):
    """What the plan does, as {ID: "step action"}."""
    entries = decide(run_id, **look)["entries"]
    assert len({entry["id"] for entry in entries}) == len(entries)
    return {entry["id"]: f"{entry['step']} {entry['action']}" for entry in entries}


@pytest.mark.parametrize(
    ("stamp", "past"),
    [(PAST, True), (FUTURE, False), ("2026-11-22T12:00:00Z", False), (None, False), ("", False), ("soon", False)],
)
def test_only_a_time_that_can_be_read_and_has_passed_is_an_expiry(stamp, past):
    assert expired(stamp, NOW) is past


def test_the_time_is_now_unless_one_is_given():
    assert [
        entry["id"]
        for entry in decide("", None, volumes=[volume(tags=tags(expires="2001-01-01T00:00:00Z"))])["entries"]
    ]
    assert not decide("", None, volumes=[volume(tags=tags(expires="2999-01-01T00:00:00Z"))])["entries"]


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("pending", {"i-1": "terminate terminated"}),
        ("running", {"i-1": "terminate terminated"}),
        ("stopping", {"i-1": "terminate terminated"}),
        ("stopped", {"i-1": "terminate terminated"}),
        ("shutting-down", {"i-1": "watch terminated"}),
        ("terminated", {}),
    ],
)
def test_an_instance_is_terminated_when_its_state_allows_it(state, step):
    assert steps(instances=[instance(state=state)]) == step


def test_a_run_s_cleanup_takes_what_has_not_expired_but_of_that_run_only():
    ours, others = tags(expires=FUTURE), tags("r2")
    assert steps(
        instances=[instance("i-1", tags=ours), instance("i-2", tags=others)],
        volumes=[volume("vol-1", tags=ours), volume("vol-2", tags=others)],
        groups=[group("sg-1", tags=ours), group("sg-2", tags=others)],
    ) == {"i-1": "terminate terminated", "vol-1": "delete deleted", "sg-1": "delete deleted"}


@pytest.mark.parametrize("wild", ["*", "r?", "r"])
def test_a_run_id_is_taken_by_the_letter(wild):
    """EC2's filters know wildcards."""
    assert steps(wild, instances=[instance()], volumes=[volume()], groups=[group()]) == {}


def test_without_a_run_id_what_has_expired_goes_of_every_run_and_nothing_else():
    running = tags("r3", expires=FUTURE)
    untimed = tags("r4", expires="")
    foreign = {"Name": "precious", "ec2-backup:expires": PAST}
    found = steps(
        "",
        instances=[
            instance("i-1"),
            instance("i-2", tags=tags("r2")),
            instance("i-3", tags=running),
            instance("i-4", tags=untimed),
            instance("i-5", tags=foreign),
            instance("i-6", tags=None),
        ],
        volumes=[
            volume("vol-1"),
            volume("vol-3", on=["i-3"], tags=running),
            volume("vol-4", tags=untimed),
            volume("vol-5", tags=foreign),
            volume("vol-6", tags=None),
        ],
        groups=[group("sg-1"), group("sg-3", tags=running), group("sg-4", tags=untimed), group("sg-5", tags=foreign)],
    )
    assert found == {
        "i-1": "terminate terminated",
        "i-2": "terminate terminated",
        "vol-1": "delete deleted",
        "sg-1": "delete deleted",
    }


def test_volumes_that_die_with_their_instance_are_followed():
    mappings = [("/dev/xvda", "vol-0", True), ("/dev/sdf", "vol-1", True)]
    found = {"volumes": [volume("vol-0", on=["i-1"]), volume("vol-1", on=["i-1"])]}
    want = {"vol-0": "follow deleted", "vol-1": "follow deleted"}
    assert steps(instances=[instance(mappings=mappings)], **found) == {"i-1": "terminate terminated", **want}
    assert steps(instances=[instance(state="terminated")], **found) == want


@pytest.mark.parametrize("status", ["available", "error"])
def test_an_uncommitted_volume_that_nobody_has_is_deleted(status):
    assert steps(volumes=[volume(status=status)]) == {"vol-1": "delete deleted"}


def test_a_volume_that_is_being_made_is_waited_for_and_one_that_is_being_deleted_is_gone():
    assert steps(volumes=[volume(status="creating")]) == {"vol-1": "follow deleted"}
    assert steps(volumes=[volume(status="deleting")]) == {}


@pytest.mark.parametrize("run_id", ["r1", ""])
def test_a_complete_volume_is_never_deleted(run_id):
    assert steps(run_id, volumes=[volume(tags=tags(status="complete"))]) == {}
    assert steps(run_id, volumes=[volume(tags=tags(status="complete"), status="error")]) == {}


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("expires", ["", FUTURE])
@pytest.mark.parametrize("run_id", ["r1", ""])
def test_a_complete_volume_leaves_its_instance_before_that_is_terminated(run_id, expires, dies):
    found = decide(
        run_id,
        instances=[instance(mappings=[("/dev/sdf", "vol-1", dies)])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete", expires=expires))],
    )["entries"]
    detach = next(entry for entry in found if entry["id"] == "vol-1")
    assert (detach["step"], detach["instance_id"], detach["blocks"]) == ("detach", "i-1", dies)


@pytest.mark.parametrize("known", [[], [volume("vol-9", on=["i-1"], tags=tags("r0", status="complete", expires=""))]])
def test_a_given_volume_is_detached_by_the_termination_and_never_deleted(known):
    """Also in the moment before the tags of an earlier backup are taken from it."""
    mappings = [("/dev/xvda", "vol-0", True), ("/dev/sdf", "vol-9", False)]
    found = steps(instances=[instance(mappings=mappings)], volumes=known)
    assert found == {"i-1": "terminate terminated", "vol-9": f"{'detach' if known else 'follow'} detached"}


def test_a_given_volume_that_would_die_with_the_instance_leaves_it_before():
    assert steps(instances=[instance(mappings=[("/dev/sdf", "vol-9", True)])])["vol-9"] == "detach detached"


@pytest.mark.parametrize("state", ["pending", "shutting-down"])
def test_nothing_is_detached_from_an_instance_that_ec2_would_not_detach_it_from(state):
    found = steps(
        instances=[instance(state=state, mappings=[("/dev/sdf", "vol-1", True)])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete"))],
    )
    assert not any(step.startswith(("detach", "terminate")) for step in found.values())


@pytest.mark.parametrize("holder", [instance("i-2", tags=tags("r2", expires=FUTURE)), None])
def test_a_volume_that_a_foreign_instance_has_is_kept_and_named(holder):
    decided = decide("", instances=[holder] if holder else [], volumes=[volume(on=["i-2"])])
    assert decided["entries"] == []
    assert [(entry["id"], entry["why"]) for entry in decided["kept"]] == [("vol-1", "it is attached to i-2")]


def test_a_volume_whose_instance_was_given_more_time_is_left_alone():
    decided = decide("", instances=[instance(tags=tags(expires=FUTURE))], volumes=[volume(on=["i-1"])])
    assert decided == {"entries": [], "kept": [], "complete": []}


def test_without_a_look_at_the_volumes_nothing_is_terminated_or_detached():
    found = [instance(mappings=[("/dev/sdf", "vol-1", True)])]
    assert steps(instances=found, volumes=None) == {"i-1": "follow terminated"}


def test_without_a_look_at_the_instances_nothing_is_touched():
    assert steps(instances=None, volumes=[volume()], groups=[group()]) == {}


def test_a_group_waits_for_its_run_s_instances():
    assert steps(instances=[instance(groups=["sg-1"])], groups=[group()])["sg-1"] == "follow deleted"
    assert (
        steps(instances=[instance(groups=["sg-1"], state="terminated")], groups=[group()])["sg-1"] == "delete deleted"
    )


def test_a_group_that_a_foreign_instance_uses_is_kept_and_named():
    decided = decide("", groups=[group()], users=[instance("i-2", groups=["sg-1"], tags={})])
    assert decided["entries"] == []
    assert [(entry["id"], entry["why"]) for entry in decided["kept"]] == [("sg-1", "i-2 uses it")]
    assert steps("", groups=[group()], users=[instance("i-2", "terminated", groups=["sg-1"], tags={})])


def test_a_group_with_another_name_is_not_ours():
    assert steps(groups=[group(label="web")]) == {}


@pytest.mark.parametrize("name", ["", None, "*", "vol-1"])
def test_an_instance_without_an_id_stops_everything(name):
    with pytest.raises(ValueError, match="nothing was terminated"):
        decide(instances=[instance(), instance(name)])


def test_only_free_volumes_that_this_run_has_completed_are_its_backup():
    done = tags(status="complete", expires="")
    found = [
        volume("vol-1", tags=done),
        volume("vol-2", on=["i-1"], tags=done),
        volume("vol-3"),
        volume("vol-4", tags=tags("r2", status="complete")),
        volume("vol-5", status="in-use", tags=done),
    ]
    assert decide(volumes=found)["complete"] == ["vol-1"]
    assert decide(volumes=found, instances=None)["complete"] == ["vol-1"]
    assert decide("", volumes=found)["complete"] == []
    assert decide(volumes=None)["complete"] is None


def test_what_only_time_can_bring_is_no_work():
    mappings = [("/dev/xvda", "vol-0", True)]
    assert not has_work(decide())
    assert not has_work(
        decide(instances=[instance(state="shutting-down", mappings=mappings)], volumes=[volume("vol-0", on=["i-1"])])
    )
    assert has_work(decide(instances=[instance()]))
    assert has_work(decide(volumes=[volume(on=["i-2"])]))  # its holder may be ours, and about to be seen
    assert not has_work(decide("", groups=[group()], users=[instance("i-2", groups=["sg-1"], tags={})]))


# -- rounds


def failure(error="no", code=""):
    return {"error": error, "code": code}


def unseen(msg="no", code=""):
    return {"errors": {"instances": {"msg": msg, "code": code}}}


def take_in(decided, failures=None, state=None, look=(), now=NOW, **removal):
    """One round; ``failures`` maps IDs to outcomes, what is not in it succeeded."""
    acted = [entry for entry in decided["entries"] if entry["step"] in ("detach", "terminate", "delete")]
    outcomes = [
        {"id": entry["id"], "step": entry["step"], "error": "", "code": "", **(failures or {}).get(entry["id"], {})}
        for entry in acted
    ]
    start = {"deadline": NOW.timestamp() + 600}
    return progress(state or start, {**decided, **dict(look)}, removal or {"outcomes": outcomes}, 2, now)


def rounds(decided, outcomes, limit=50):
    """How many rounds it takes to give up while nothing changes, and the state then."""
    state = None
    for number in itertools.count(1):
        state = take_in(decided, outcomes, state)
        if not state["again"]:
            return number, state
        assert number < limit


def ids(entries):
    return [entry["id"] for entry in entries]


def test_an_empty_account_ends_after_one_round():
    state = take_in(decide())
    assert (state["again"], state["removed"], state["left"], state["trouble"]) == (False, [], [], "")


def test_what_was_deleted_needs_no_further_look():
    state = take_in(decide(volumes=[volume()], groups=[group()]))
    assert not state["again"]
    assert ids(state["removed"]) == ["vol-1", "sg-1"]
    assert state["removed"][0] == {"kind": "volume", "id": "vol-1", "action": "deleted", "run_id": "r1"}


def test_a_terminated_instance_is_looked_for_until_it_and_its_volumes_are_gone():
    mappings = [("/dev/xvda", "vol-0", True), ("/dev/sdf", "vol-9", False)]
    root = volume("vol-0", on=["i-1"])
    state = take_in(decide(instances=[instance(mappings=mappings)], volumes=[root]))
    assert (state["again"], state["pause"], state["removed"]) == (True, 0, [])
    state = take_in(decide(instances=[instance(state="terminated")], volumes=[root]), state=state)
    assert state["again"]
    assert ids(state["removed"]) == ["i-1", "vol-9"]
    state = take_in(decide(instances=[instance(state="terminated")]), state=state)
    assert not state["again"]
    assert {entry["id"]: entry["action"] for entry in state["removed"]} == {
        "i-1": "terminated",
        "vol-0": "deleted",
        "vol-9": "detached",
    }


def test_what_somebody_else_is_terminating_is_waited_for_but_not_claimed():
    state = take_in(decide(instances=[instance(state="shutting-down")]))
    assert state["again"]
    assert ids(state["left"]) == ["i-1"]
    state = take_in(decide(), state=state)
    assert (state["again"], state["removed"], state["left"]) == (False, [], [])


def test_a_failure_is_tried_again_thrice_with_growing_pauses_and_then_named():
    decided = decide(volumes=[volume()], groups=[group()])
    state: Any = {"deadline": NOW.timestamp() + 600}
    for pause in (2, 4, 0):
        state = take_in(decided, {"vol-1": failure("Error\n while deleting")}, state)
        assert state["pause"] == pause
    assert not state["again"]
    assert ids(state["removed"]) == ["sg-1"]
    assert state["lines"]["left"] == ["volume vol-1 of run r1: Error while deleting"]


@pytest.mark.parametrize(
    ("code", "number"),
    [("UnauthorizedOperation", 1), ("ExpiredToken", 1), ("InternalError", 3), ("DependencyViolation", 12)],
)
def test_how_often_is_tried_depends_on_whether_it_can_help(code, number):
    assert rounds(decide(groups=[group()]), {"sg-1": failure(code=code)})[0] == number


def test_a_removal_that_breaks_down_counts_as_a_failure_of_all_that_it_was_to_do():
    state: Any = None
    for again in (True, True, False):
        state = take_in(decide(volumes=[volume()]), state=state, failed=True, msg="no space left")
        assert (state["again"], ids(state["left"]), state["removed"]) == (again, ["vol-1"], [])
    assert state["lines"]["left"] == ["volume vol-1 of run r1: no space left"]


def test_what_failed_because_somebody_else_was_faster_is_done():
    state = take_in(decide(volumes=[volume()]), {"vol-1": failure(code="InvalidVolume.NotFound")})
    assert state["again"]
    state = take_in(decide(), state=state)
    assert (state["again"], state["left"], ids(state["removed"])) == (False, [], ["vol-1"])


def test_an_instance_whose_complete_volume_cannot_be_detached_is_left_with_all_that_hangs_on_it():
    decided = decide(
        instances=[instance(mappings=[("/dev/sdf", "vol-1", True)], groups=["sg-1"])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete")), volume("vol-0", on=["i-1"])],
        groups=[group()],
    )
    number, state = rounds(decided, {"vol-1": failure("busy"), "i-1": failure("not terminated")})
    assert number == 3
    assert ids(state["left"]) == ["i-1", "vol-1", "vol-0", "sg-1"]
    assert state["removed"] == []


def test_nothing_is_begun_after_the_deadline():
    late = NOW + datetime.timedelta(seconds=600)
    assert take_in(decide(instances=[instance()]))["again"]
    state = take_in(decide(instances=[instance()]), now=late)
    assert (state["again"], ids(state["left"])) == (False, ["i-1"])


def test_a_volume_whose_holder_is_not_to_be_seen_yet_is_looked_at_again():
    """The look at the instances came just before the late instance, that at the volumes just after it."""
    state = take_in(decide(volumes=[volume(on=["i-1"])]))
    assert state["again"]
    assert take_in(decide(instances=[instance()], volumes=[volume(on=["i-1"])]), state=state)["again"]
    number, state = rounds(decide(volumes=[volume(on=["i-1"])]), {})
    assert (number, state["left"], ids(state["kept"])) == (3, [], ["vol-1"])


def test_a_group_that_is_kept_for_somebody_else_is_no_reason_to_go_on_or_to_fail():
    state = take_in(decide(groups=[group()]), {"sg-1": failure(code="DependencyViolation")})
    state = take_in(decide(groups=[group()], users=[instance("i-2", groups=["sg-1"], tags={})]), state=state)
    assert (state["again"], state["left"], state["removed"], ids(state["kept"])) == (False, [], [], ["sg-1"])


def test_a_failed_look_is_repeated_and_what_was_known_stays_left():
    state = take_in(decide(instances=[instance()]))
    for again in (True, True, False):
        state = take_in(decide(instances=None), state=state, look=unseen("no reply"))
        assert state["again"] is again
    assert (state["trouble"], ids(state["left"]), state["removed"]) == ("no reply", ["i-1"], [])
    assert not take_in(decide(instances=None), look=unseen(code="AuthFailure"))["again"]


def test_a_look_that_breaks_down_shows_nothing_and_proves_nothing():
    state = take_in(decide(instances=[instance()], volumes=[volume("vol-9", tags=tags(status="complete"))]))
    state = progress(state, {"failed": True, "msg": "no space left"}, {"skipped": True}, 2, NOW)
    assert (state["trouble"], ids(state["left"]), state["complete"]) == ("no space left", ["i-1"], ["vol-9"])


def test_a_look_that_works_again_forgets_the_failed_ones():
    state = take_in(decide(instances=None), look=unseen())
    state = take_in(decide(), state=state)
    assert (state["again"], state["trouble"], state["blind"]) == (False, "", 0)


def test_a_dry_run_lists_what_would_go():
    found = decide(instances=[instance(), instance("i-2", "shutting-down")], volumes=[volume()], groups=[group()])
    state = progress({"deadline": NOW.timestamp()}, found, {"skipped": True}, 2, NOW)
    assert ids(state["would"]) == ["i-1", "vol-1", "sg-1"]
    assert state["lines"]["would"][0] == "instance i-1 of run r1: would be terminated"
