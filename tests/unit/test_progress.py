"""From milestones, byte counts and the time to a state, and from that to text. Milestones are those of real runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils import milestones
from ec2_backup.show import progress
from ec2_backup.show.progress import State
from tests.unit.events import RECORDED, began, said

MIB = 1024 * 1024


COMMANDS = {"plan": "backup", "given": "backup", "files": "restore"}  # of recordings that are not named by theirs


def replay(name: str, counters: Mapping[float, tuple[int | None, int]] | None = None, until: float = 999) -> State:
    """The state when the events of a recorded run, and what its counter showed at which times, have been taken in."""
    state = progress.after_begin(progress.start(-1.0), COMMANDS.get(name, name), -0.5)
    inputs: list[tuple[float, Any, tuple[int | None, int] | None]]
    inputs = [(event["at"], event, None) for event in RECORDED[name]]
    inputs += [(at, None, counted) for at, counted in (counters or {}).items()]
    for at, event, counted in sorted(inputs, key=lambda item: item[0]):
        if at <= until:
            state = progress.after_count(state, *counted, at) if counted else progress.after_event(state, event, at)
    return state


def reported(name: str, option: str) -> list[tuple[float, Any]]:
    """When a recorded run reported what, of one option of its milestones."""
    found = []
    for event in RECORDED[name]:
        milestone = event["event_data"].get("res", {}).get(milestones.KEY, {})
        found += [(event["at"], milestone[option])] if option in milestone else []
    return found


def begin_of(name: str, phase: str) -> float:
    """When a phase of a recorded run began."""
    return next(at for at, begun in reported(name, "phase") if begun == phase)


ARCHIVE = reported("backup", "total")[0][1]
LAST = RECORDED["backup"][-1]["at"] + 1.0
UP = "launching, waiting for SSH"
UP_WITH_VOLUME = "finding the volume, launching, attaching the volume, waiting for SSH"


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("plan", "starting, measuring, checking"),
        ("backup", f"starting, measuring, {UP}, streaming, verifying, committing, cleaning up"),
        ("given", f"starting, measuring, {UP_WITH_VOLUME}, streaming, committing, cleaning up"),
        ("restore", f"starting, {UP_WITH_VOLUME}, reading the manifest, restoring, cleaning up"),
        ("files", f"starting, {UP_WITH_VOLUME}, reading the manifest, listing the files, cleaning up"),
        ("verify", f"starting, {UP_WITH_VOLUME}, reading the manifest, verifying, cleaning up"),
        ("list", "starting, looking for volumes"),
        ("cleanup", "starting, cleaning up"),
    ],
)
def test_a_run_goes_through_its_phases_and_their_times_add_up(name, phases):
    spent = progress.phases(replay(name), 100.0)
    assert ", ".join(spent) == phases
    assert sum(spent.values()) == pytest.approx(101.0)


def test_a_cleanup_after_an_interrupted_play_is_a_phase_from_its_begin_on():
    state = replay("backup", until=begin_of("backup", "streaming"))
    assert progress.after_begin(state, "cleanup", 50.0).phase == "cleaning up"
    assert progress.after_begin(progress.start(0.0), "cleanup", 0.1).phase == "cleaning up"


def test_a_stream_is_shown_with_its_amount_percent_rate_and_time_left():
    at = begin_of("backup", "streaming")
    counters = {at + 0.25 * n: (n * MIB // 2, n * MIB // 2) for n in range(5)}
    state = replay("backup", counters, until=at + 1)
    percent, left = 200 * MIB // ARCHIVE, (ARCHIVE - 2 * MIB) / (2 * MIB)
    assert progress.line(state, at + 1) == (
        f"streaming {percent}%, 2.0 MiB of {progress.binary(ARCHIVE)}, 2.0 MiB/s, {left:.0f} s left"
    )
    assert progress.as_object(state, at + 1) == {
        "type": "progress",
        "elapsed": round(at + 2, 1),
        "phase": "streaming",
        "phase_elapsed": pytest.approx(1.0, abs=0.1),
        "bytes": 2 * MIB,
        "total": ARCHIVE,
        "percent": percent,
        "rate": 2 * MIB,
        "seconds_left": round(left),
    }


def streaming(**fields: Any) -> State:
    """A stream that began at 0."""
    state = State(began=0.0, since=0.0, phase=progress.STREAMING, command="backup", total=100 * MIB)
    return dataclasses.replace(state, **fields)


def test_the_rate_is_that_of_the_last_seconds_only():
    state = streaming()
    for second in range(30):
        state = progress.after_count(state, min(second, 15) * MIB, 0, float(second))
    assert progress.figures(state).rate == 0
    assert progress.line(state, 30.0) == "streaming 15%, 15.0 MiB of 100.0 MiB, 0 B/s"
    assert len(state.samples) <= progress.WINDOW + 2


def test_counters_never_run_backwards_and_count_only_where_bytes_move():
    state = progress.after_count(streaming(), 5 * MIB, 5 * MIB, 1.0)
    assert progress.after_count(state, 3 * MIB, 3 * MIB, 2.0).taken == 5 * MIB
    launching = progress.start(0.0)
    assert progress.after_count(launching, 1, 1, 1.0) == launching


def test_an_archive_that_outgrows_its_measure_has_no_percent():
    state = progress.after_count(streaming(), 101 * MIB, 101 * MIB, 1.0)
    assert progress.line(state, 1.0) == "streaming, 101.0 MiB"


def test_a_stream_behind_a_filter_whose_input_nobody_counts_tells_what_was_sent():
    state = progress.after_count(streaming(), None, 7 * MIB, 3.0)
    assert progress.line(state, 3.0) == "streaming, 100.0 MiB, 7.0 MiB sent, 3 s"


@pytest.mark.parametrize("name", ["backup", "given", "restore", "files", "verify"])
def test_the_summary_has_the_amount_and_where_the_time_went(name):
    state = replay(name)
    took = progress.phases(state, LAST).items()
    spent = [f"{phase} {progress.duration(seconds)}" for phase, seconds in took if seconds >= 0.5]
    assert progress.summary(state, LAST) == (
        f"{progress.binary(ARCHIVE)} in {progress.duration(LAST + 1)}: {', '.join(spent)}"
    )
    assert progress.summary_object(state, LAST)["bytes"] == ARCHIVE


def test_the_summary_tells_a_filters_work_and_an_unfinished_stream():
    done = progress.after_event(streaming(), said(moved={"sent": 20 * MIB}), 8.0)
    assert progress.summary(done, 9.0) == "100.0 MiB (20.0 MiB sent) in 9 s: streaming 9 s"
    cut = progress.enter(progress.after_count(streaming(), 30 * MIB, 30 * MIB, 5.0), progress.CLEANING, 6.0)
    assert progress.summary(cut, 9.0) == "30.0 MiB of 100.0 MiB in 9 s: streaming 6 s, cleaning up 3 s"


def test_what_is_read_back_for_a_backup_is_not_counted_twice():
    state = progress.after_event(streaming(), said(moved={"taken": 100 * MIB, "sent": 100 * MIB}), 8.0)
    state = progress.after_event(state, said(phase="verifying"), 9.0)
    state = progress.after_event(state, said(moved={"taken": 100 * MIB, "sent": 100 * MIB}), 10.0)
    assert progress.summary_object(state, 10.0)["bytes"] == 100 * MIB


def test_the_bytes_of_several_volumes_are_added_up_and_the_length_of_one_is_not_that_of_the_next():
    state = progress.after_begin(progress.start(0.0), "verify", 0.0)
    for total in (10 * MIB, 20 * MIB):
        for milestone in (
            said(phase="reading the manifest"),
            said(total=total),
            said(phase="verifying"),
            said(moved={"taken": total, "sent": total}),
        ):
            state = progress.after_event(state, milestone, 1.0)
    state = progress.after_event(state, said(phase="reading the manifest"), 2.0)  # of one that has none
    assert (state.before, state.total) == (30 * MIB, None)


@pytest.mark.parametrize("width", range(1, 80))
def test_a_live_line_fits_its_terminal_whatever_its_width(width):
    state = progress.after_count(progress.after_count(streaming(), MIB, MIB, 1.0), 43 * MIB, 43 * MIB, 3.0)
    assert len(progress.live(state, 3.0, width)) <= width
    assert len(progress.live(replay("backup", until=begin_of("backup", "waiting for SSH")), 99.0, width)) <= width


def test_a_live_line_has_a_bar_where_there_is_room_and_drops_what_matters_least_where_there_is_none():
    state = progress.after_count(progress.after_count(streaming(), MIB, MIB, 1.0), 43 * MIB, 43 * MIB, 3.0)
    assert progress.live(state, 3.0, 79, "#-") == (
        "streaming 43% ########------------ 43.0 MiB of 100.0 MiB, 21.0 MiB/s, 3 s left"
    )
    assert progress.live(state, 3.0, 50) == "streaming 43%, 43.0 MiB of 100.0 MiB, 3 s left"
    assert progress.live(state, 3.0, 25) == "streaming 43%, 3 s left"
    assert progress.live(state, 3.0, 15) == "streaming 43%"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (125, "2 min 5 s"), (11400, "3 h 10 min"), (187200, "2 d 4 h")],
)
def test_times_are_shown_in_two_units_at_most(seconds, shown):
    assert progress.duration(seconds) == shown


def test_only_steps_that_mean_something_to_a_person_have_a_name():
    events = [
        began("Decide", "ansible.builtin.set_fact"),
        began("Say", milestones.ACTION),
        began("Launch", "amazon.aws.ec2_instance"),
        said(phase="launching"),
    ]
    assert [progress.steps(event) for event in events] == [[], [], ["Launch"], []]


def test_notices_are_shown_as_steps_but_for_those_that_repeat_the_result():
    assert progress.steps(said(notice=["no room in a; next: b"])) == ["no room in a; next: b"]
    assert progress.steps(said(notice=["vol-1 holds /srv"], result={"ec2_backup_results": {}})) == []
