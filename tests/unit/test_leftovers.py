"""What a cleanup takes, what it leaves alone, and when it gives the rest up."""

import datetime
import itertools

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._account.leftovers import (
    ACTS,
    Outcome,
    Plan,
    Progress,
    expired,
    only_time,
    plan,
)

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


def decide(run_id="r1", now=NOW, named=(), asked=(), finished=(), **look):
    return plan({"instances": [], "volumes": [], "groups": [], **look}, run_id, now, named, asked, finished)


def steps(run_id="r1", **look):
    """What the plan does, as {ID: "step action"}."""
    entries = decide(run_id, **look).entries
    assert len({entry.id for entry in entries}) == len(entries)
    return {entry.id: f"{entry.step} {entry.action}" for entry in entries}


def ids(entries):
    return [entry["id"] if isinstance(entry, dict) else entry.id for entry in entries]


def reasons(entries):
    return [(entry.id, entry.why) for entry in entries]


@pytest.mark.parametrize(
    ("stamp", "past"),
    [(PAST, True), (FUTURE, False), ("2026-11-22T12:00:00Z", False), (None, False), ("", False), ("soon", False)],
)
def test_only_a_time_that_can_be_read_and_has_passed_is_an_expiry(stamp, past):
    assert expired(stamp, NOW) is past


def test_the_time_is_now_unless_one_is_given():
    assert decide("", None, volumes=[volume(tags=tags(expires="2001-01-01T00:00:00Z"))]).entries
    assert not decide("", None, volumes=[volume(tags=tags(expires="2999-01-01T00:00:00Z"))]).entries


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


def test_a_volume_that_is_known_to_be_complete_counts_as_that_whatever_its_tag_still_says():
    stale = volume(tags=tags(status="writing"))
    assert decide(finished=["vol-1"], volumes=[stale, volume("vol-2")]).complete == ["vol-1"]
    assert steps(finished=["vol-1"], volumes=[stale, volume("vol-2")]) == {"vol-2": "delete deleted"}
    found = steps(
        finished=["vol-1"],
        instances=[instance(mappings=[("/dev/sdf", "vol-1", True)])],
        volumes=[volume(on=["i-1"])],
    )
    assert found == {"i-1": "terminate terminated", "vol-1": "detach detached"}


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("expires", ["", FUTURE])
@pytest.mark.parametrize("run_id", ["r1", ""])
def test_a_complete_volume_leaves_its_instance_before_that_is_terminated(run_id, expires, dies):
    found = decide(
        run_id,
        instances=[instance(mappings=[("/dev/sdf", "vol-1", dies)])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete", expires=expires))],
    ).entries
    detach = next(entry for entry in found if entry.id == "vol-1")
    assert (detach.step, detach.instance_id, detach.blocks) == ("detach", "i-1", dies)


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
    assert decided.entries == []
    assert reasons(decided.kept) == [("vol-1", "it is attached to i-2")]


def test_a_volume_whose_instance_was_given_more_time_is_left_alone():
    decided = decide("", instances=[instance(tags=tags(expires=FUTURE))], volumes=[volume(on=["i-1"])])
    assert decided == Plan([], [], [])


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
    assert decided.entries == []
    assert reasons(decided.kept) == [("sg-1", "i-2 uses it")]
    assert steps("", groups=[group()], users=[instance("i-2", "terminated", groups=["sg-1"], tags={})])


def test_a_group_with_another_name_is_not_ours():
    assert steps(groups=[group(label="web")]) == {}


def test_only_free_volumes_that_this_run_has_completed_are_its_backup():
    done = tags(status="complete", expires="")
    found = [
        volume("vol-1", tags=done),
        volume("vol-2", on=["i-1"], tags=done),
        volume("vol-3"),
        volume("vol-4", tags=tags("r2", status="complete")),
        volume("vol-5", status="in-use", tags=done),
    ]
    assert decide(volumes=found).complete == ["vol-1"]
    assert decide(volumes=found, instances=None).complete == ["vol-1"]
    assert decide("", volumes=found).complete == []
    assert decide(volumes=None).complete is None


# -- instances that the caller knows of


def test_a_named_instance_that_ec2_does_not_show_is_terminated_once_and_then_waited_for():
    assert steps(named=["i-1"]) == {"i-1": "terminate terminated"}
    assert steps(named=["i-1"], asked=["i-1"]) == {"i-1": "follow terminated"}


@pytest.mark.parametrize("unseen", [{"instances": None}, {"volumes": None}, {"instances": None, "volumes": None}])
def test_a_named_instance_is_terminated_even_if_the_account_cannot_be_looked_at(unseen):
    look = {"instances": [instance(), instance("i-2")], **unseen}
    found = steps(named=["i-1"], **look)
    assert found.pop("i-1") == "terminate terminated"
    assert set(found.values()) <= {"follow terminated"}


def test_a_named_instance_stays_while_a_volume_that_is_to_outlive_it_is_being_detached():
    found = steps(
        named=["i-1"],
        instances=[instance(state="pending", mappings=[("/dev/sdf", "vol-1", True)])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete"))],
    )
    assert found["i-1"] == "follow terminated"


def test_an_instance_that_was_asked_to_terminate_is_waited_for_whatever_its_state_is():
    found = steps(asked=["i-1"], instances=[instance(mappings=[("/dev/sdf", "vol-9", True)])])
    assert found == {"i-1": "follow terminated"}


@pytest.mark.parametrize(
    ("waits", "instances", "more"),
    [
        (False, [], {}),
        (False, [instance()], {}),
        (True, [instance(state="shutting-down")], {}),
        (True, [instance()], {"asked": ["i-1"]}),
        (False, [instance(state="shutting-down"), instance("i-2")], {}),
        (True, [instance(state="shutting-down"), instance("i-2", state="terminated")], {}),
        (True, [instance(state="shutting-down"), instance("i-2", tags=tags("r2"))], {}),
        (False, [instance(state="terminated")], {}),
        (False, [], {"named": ["i-3"]}),
        (True, [], {"named": ["i-3"], "asked": ["i-3"]}),
        (False, [instance(state="shutting-down")], {"named": ["i-3"]}),
    ],
)
def test_only_time_can_end_what_is_shutting_down_or_was_asked_to(waits, instances, more):
    assert only_time(instances, "r1", NOW, **more) is waits


# -- look by look


def failure(error="no", code=""):
    return {"error": error, "code": code}


def acted_on(decided, failures):
    """The outcomes of all that is to be done; ``failures`` maps IDs to errors, what is not in it succeeded."""
    entries = [entry for entry in decided.entries if entry.step in ACTS]
    return [Outcome(entry, **(failures or {}).get(entry.id, {})) for entry in entries]


def take(decided, failures=None, progress=None, unseen="", code=""):
    """One look and what follows."""
    progress = progress or Progress(2)
    progress.take(decided, acted_on(decided, failures), unseen, code)
    return progress


def rounds(decided, failures, limit=50):
    """How many looks it takes to give up while nothing changes, and the progress then."""
    progress = Progress(2)
    for number in itertools.count(1):
        take(decided, failures, progress)
        if not progress.again:
            return number, progress
        assert number < limit


def test_an_empty_account_needs_no_further_look():
    progress = take(decide())
    assert not progress.again
    result = progress.result()
    assert (result["removed"], result["left"], result["trouble"]) == ([], [], "")


def test_what_was_deleted_is_done():
    progress = take(decide(volumes=[volume()], groups=[group()]))
    assert not progress.again
    removed = progress.result()["removed"]
    assert ids(removed) == ["vol-1", "sg-1"]
    assert removed[0] == {"kind": "volume", "id": "vol-1", "action": "deleted", "run_id": "r1"}


def test_a_terminated_instance_is_looked_for_until_it_and_its_volumes_are_gone():
    mappings = [("/dev/xvda", "vol-0", True), ("/dev/sdf", "vol-9", False)]
    root = volume("vol-0", on=["i-1"])
    progress = take(decide(instances=[instance(mappings=mappings)], volumes=[root]))
    assert (progress.again, progress.pause, progress.result()["removed"]) == (True, 0, [])
    take(decide(instances=[instance(state="terminated")], volumes=[root]), progress=progress)
    assert progress.again
    assert ids(progress.result()["removed"]) == ["i-1", "vol-9"]
    take(decide(instances=[instance(state="terminated")]), progress=progress)
    assert not progress.again
    assert {entry["id"]: entry["action"] for entry in progress.result()["removed"]} == {
        "i-1": "terminated",
        "vol-0": "deleted",
        "vol-9": "detached",
    }


def test_what_somebody_else_is_terminating_is_waited_for_but_not_claimed():
    progress = take(decide(instances=[instance(state="shutting-down")]))
    assert progress.again
    assert ids(progress.result()["left"]) == ["i-1"]
    take(decide(), progress=progress)
    result = progress.result()
    assert (progress.again, result["removed"], result["left"]) == (False, [], [])


def test_what_the_caller_itself_has_begun_to_terminate_is_claimed():
    progress = take(decide(named=["i-1"], instances=[instance(state="shutting-down")]))
    take(decide(named=["i-1"], instances=[instance(state="terminated")]), progress=progress)
    assert ids(progress.result()["removed"]) == ["i-1"]


def test_a_failure_is_tried_again_thrice_with_growing_pauses_and_then_named():
    decided = decide(volumes=[volume()], groups=[group()])
    progress = Progress(2)
    for again, pause in ((True, 2), (True, 4), (False, 8)):
        take(decided, {"vol-1": failure("Error\n while deleting")}, progress)
        assert (progress.again, progress.pause) == (again, pause)
    assert ids(progress.result()["removed"]) == ["sg-1"]
    assert progress.result()["lines"]["left"] == ["volume vol-1 of run r1: Error while deleting"]


@pytest.mark.parametrize(
    ("code", "number"),
    [("UnauthorizedOperation", 1), ("ExpiredToken", 1), ("InternalError", 3), ("DependencyViolation", 12)],
)
def test_how_often_is_tried_depends_on_whether_it_can_help(code, number):
    tried, progress = rounds(decide(groups=[group()]), {"sg-1": failure(code=code)})
    assert tried == number
    assert progress.pause <= 10


def test_what_failed_because_somebody_else_was_faster_is_done():
    progress = take(decide(volumes=[volume()]), {"vol-1": failure(code="InvalidVolume.NotFound")})
    assert progress.again
    take(decide(), progress=progress)
    result = progress.result()
    assert (progress.again, result["left"], ids(result["removed"])) == (False, [], ["vol-1"])


def test_an_instance_whose_complete_volume_cannot_be_detached_is_left_with_all_that_hangs_on_it():
    decided = decide(
        instances=[instance(mappings=[("/dev/sdf", "vol-1", True)], groups=["sg-1"])],
        volumes=[volume(on=["i-1"], tags=tags(status="complete")), volume("vol-0", on=["i-1"])],
        groups=[group()],
    )
    number, progress = rounds(decided, {"vol-1": failure("busy"), "i-1": failure("not terminated")})
    assert number == 3
    assert ids(progress.result()["left"]) == ["i-1", "vol-1", "vol-0", "sg-1"]
    assert progress.result()["removed"] == []


def test_a_volume_whose_holder_is_not_to_be_seen_yet_is_looked_at_again():
    """The look at the instances came just before the late instance, that at the volumes just after it."""
    progress = take(decide(volumes=[volume(on=["i-1"])]))
    assert progress.again
    assert take(decide(instances=[instance()], volumes=[volume(on=["i-1"])]), progress=progress).again
    number, progress = rounds(decide(volumes=[volume(on=["i-1"])]), {})
    result = progress.result()
    assert (number, result["left"], ids(result["kept"])) == (3, [], ["vol-1"])


def test_a_group_that_is_kept_for_somebody_else_is_no_reason_to_go_on_or_to_fail():
    progress = take(decide(groups=[group()]), {"sg-1": failure(code="DependencyViolation")})
    take(decide(groups=[group()], users=[instance("i-2", groups=["sg-1"], tags={})]), progress=progress)
    result = progress.result()
    assert (progress.again, result["left"], result["removed"], ids(result["kept"])) == (False, [], [], ["sg-1"])


def test_a_failed_look_is_repeated_and_what_was_known_stays_left():
    progress = take(decide(instances=[instance()]))
    for again in (True, True, False):
        take(decide(instances=None), None, progress, "no reply")
        assert progress.again is again
    result = progress.result()
    assert (result["trouble"], ids(result["left"]), result["removed"]) == ("no reply", ["i-1"], [])
    assert not take(decide(instances=None), unseen="no", code="AuthFailure").again


def test_a_failed_look_proves_nothing_of_what_was_seen_before():
    progress = take(decide(instances=[instance()], volumes=[volume("vol-9", tags=tags(status="complete"))]))
    take(decide(instances=None, volumes=None), progress=progress, unseen="no space left")
    result = progress.result()
    assert (result["trouble"], ids(result["left"]), result["complete"]) == ("no space left", ["i-1"], ["vol-9"])


def test_what_was_deleted_after_a_look_that_failed_in_part_is_not_left():
    decided = decide(volumes=[volume()], groups=None)
    progress = take(decided, {"vol-1": failure()})
    take(decided, None, progress, "groups: no")
    result = progress.result()
    assert (ids(result["removed"]), result["left"], result["trouble"]) == (["vol-1"], [], "groups: no")


def test_a_look_that_works_again_forgets_the_failed_ones():
    progress = take(decide(instances=None), unseen="no")
    assert progress.pause == 2
    take(decide(), progress=progress)
    assert (progress.again, progress.pause, progress.trouble) == (False, 0, "")


def test_a_dry_run_lists_what_would_go():
    found = decide(instances=[instance(), instance("i-2", "shutting-down")], volumes=[volume()], groups=[group()])
    progress = Progress(2)
    progress.take(found)
    result = progress.result(dry=True)
    assert ids(result["would"]) == ["i-1", "vol-1", "sg-1"]
    assert (result["removed"], result["left"]) == ([], [])
    assert result["lines"]["would"][0] == "instance i-1 of run r1: would be terminated"
