"""The campaign itself: each of its checks can fail, and its decisions can be repeated."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from tests.faults import cases, invariants, product
from tests.faults.invariants import Run, Snapshot, Volume

ROOT = Path(__file__).parents[2]
TAGS = {"ec2-backup:status": "complete", "ec2-backup:sha256": "5e"}
GOOD = Volume("available", TAGS, source="/data", sha256="5e")
DONE = Run(0, "vol-1\n", source="/data")
FAILED = Run(1, "", "ec2-backup: error: no\n", source="/data", statuses=(1,))
CLEAN = Snapshot((DONE,), {"i-1": "terminated"}, {"vol-1": GOOD})
ENDED = Snapshot((FAILED,), {"i-1": "terminated"})
LEFT = "ec2-backup: error: left: i-1; ec2-backup cleanup --run-id 2026-1\n"
KILLED = Run(137, "", "", source="/data", signals=(9,), may_be_orphaned=True)


def with_run(snapshot: Snapshot, **changes: object) -> Snapshot:
    """The snapshot with its run changed."""
    return dataclasses.replace(snapshot, runs=(dataclasses.replace(snapshot.runs[0], **changes),))  # type: ignore[arg-type]


def with_volume(snapshot: Snapshot, **changes: object) -> Snapshot:
    """The snapshot with its volume changed."""
    return dataclasses.replace(snapshot, volumes={"vol-1": dataclasses.replace(GOOD, **changes)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "snapshot",
    [
        CLEAN,
        ENDED,
        with_run(CLEAN, status=3, statuses=(3,)),
        dataclasses.replace(with_run(ENDED, status=130, signals=(2,))),
        with_run(CLEAN, status=130, signals=(2,), stderr="ec2-backup: SIGINT came late"),
        dataclasses.replace(ENDED, given=("vol-1",), volumes={"vol-1": Volume("available")}),
        # What a killed run leaves is removed by the watchdog, and is checked after that.
        Snapshot((KILLED,), {"i-1": "running"}, files=("tmp/ec2-backup-x",)),
        Snapshot((dataclasses.replace(FAILED, status=4, stderr=LEFT),), {"i-1": "running"}, api_down=True),
    ],
)
def test_an_outcome_that_is_right_violates_nothing(snapshot):
    assert invariants.after_the_case(snapshot) == []


@pytest.mark.parametrize(
    ("broken", "snapshot"),
    [
        ("nothing_of_a_run_is_left_in_the_account", dataclasses.replace(ENDED, instances={"i-1": "running"})),
        ("nothing_of_a_run_is_left_in_the_account", dataclasses.replace(ENDED, instances={"i-1": "shutting-down"})),
        ("nothing_of_a_run_is_left_in_the_account", dataclasses.replace(ENDED, groups=("ec2-backup-1",))),
        ("nothing_of_a_run_is_left_in_the_account", dataclasses.replace(ENDED, volumes={"vol-9": Volume("available")})),
        ("nothing_of_a_run_is_left_in_the_account", with_volume(CLEAN, state="in-use", attached=True)),
        (
            "nothing_of_a_run_is_left_in_the_account",
            dataclasses.replace(ENDED, given=("vol-1",), volumes={"vol-1": Volume("in-use", attached=True)}),
        ),
        ("given_volumes_are_there", dataclasses.replace(ENDED, given=("vol-1",))),
        ("bystanders_are_untouched", dataclasses.replace(CLEAN, bystanders={"i-9": "a bystander is terminated"})),
        ("no_process_is_left", dataclasses.replace(CLEAN, processes=("7 tar",))),
        ("no_file_is_left", dataclasses.replace(CLEAN, files=("tmp/ec2-backup-1",))),
        ("a_complete_volume_holds_what_its_tags_say", with_volume(CLEAN, sha256="0")),
        ("a_complete_volume_equals_its_source", with_volume(CLEAN, differences=(">fc...... a",))),
        ("no_secret_is_in_an_output", dataclasses.replace(CLEAN, secrets=("stderr-0",))),
        ("every_run_ends", with_run(ENDED, status=None)),
        ("the_exit_status_is_right", with_run(CLEAN, status=2)),
        ("the_exit_status_is_right", with_run(ENDED, status=143, signals=(2,))),
        ("a_run_that_finished_printed_its_volume", with_run(CLEAN, stdout="")),
        ("a_run_that_finished_printed_its_volume", with_run(dataclasses.replace(CLEAN, volumes={}), wrapper=False)),
        ("a_printed_volume_is_a_backup", dataclasses.replace(CLEAN, volumes={})),
        ("a_printed_volume_is_a_backup", with_volume(CLEAN, tags={})),
        ("a_printed_volume_is_a_backup", with_volume(CLEAN, source="/other")),
        ("a_printed_volume_is_a_backup", with_run(CLEAN, stdout="vol-1\nvol-1\n")),
        ("a_backup_is_printed", dataclasses.replace(ENDED, volumes={"vol-1": GOOD})),
        ("a_failed_run_says_why", with_run(ENDED, stderr="Traceback (most recent call last)\nOops\n")),
        ("a_failed_run_says_why", with_run(ENDED, stderr="")),
        ("a_failed_run_says_why", with_run(ENDED, stderr="ec2-backup: error: OSError: [Errno 28] No space\n")),
        ("status_4_means_that_something_is_left", with_run(ENDED, status=4, stderr=LEFT)),
        (
            "status_4_means_that_something_is_left",
            with_run(dataclasses.replace(ENDED, instances={"i-1": "running"}), status=4, stderr="ec2-backup: error: x"),
        ),
        ("as_many_runs_succeed_as_must", Snapshot((FAILED, FAILED), winners=1)),
    ],
)
def test_every_check_can_fail(broken, snapshot):
    assert broken in {words.partition(":")[0] for words in invariants.after_the_case(snapshot)}


def test_no_check_is_without_a_case_that_breaks_it():
    (mark,) = [mark for mark in test_every_check_can_fail.pytestmark if mark.name == "parametrize"]
    assert {check.__name__ for check in [*invariants.ACCOUNT, *invariants.CASE]} == {name for name, _ in mark.args[1]}


def test_what_the_watchdog_and_a_cleanup_leave_is_found():
    running = Snapshot((KILLED,), {"i-1": "running"}, groups=("ec2-backup-1",))
    assert invariants.after_the_watchdog(running) == ["the_watchdog_ends_it: instance i-1 is running"]
    assert len(invariants.after_a_cleanup(running, 1)) == 3
    assert invariants.after_a_cleanup(Snapshot((KILLED,)), 0) == []


def test_the_same_seed_makes_the_same_cases_and_another_seed_others():
    first, again = (list(itertools.islice(cases.campaign(1), 100)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(cases.campaign(2), 100))
    assert all(case == cases.make(1, case.kind, case.variant) for case in first)


def test_a_hundred_cases_hold_every_kind_and_every_phase_gets_a_signal():
    hundred = list(itertools.islice(cases.campaign(1), 100))
    assert {case.kind for case in hundred} == set(cases.KINDS)
    many = itertools.islice(cases.campaign(1), 400)
    signalled = {step.moment.event for case in many for step in case.steps if step.act == "signal"}
    assert signalled >= set(cases.PHASES)


def test_the_task_names_by_which_a_moment_is_known_are_those_of_the_roles():
    tasks = "\n".join(path.read_text() for path in (ROOT / "roles").glob("*/tasks/*.yml"))
    for event in cases.EVENTS.values():
        assert event.get("text", "") in tasks


def test_what_a_plant_replaces_is_there(tmp_path):
    with product.ready(ROOT, "cleanup-disabled") as copy:
        planted = sorted(path.relative_to(copy) for path in copy.rglob("*.yml") if path.read_text() == product.NOTHING)
    assert Path("roles/instance/tasks/terminate.yml") in planted
    assert Path("roles/cleanup/tasks/main.yml") in planted
    assert all((ROOT / path).read_text() != product.NOTHING for path in planted)
