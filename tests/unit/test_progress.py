"""From events, counters and the time to a state, and to what is said of it. The events are those of real runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ec2_backup import progress
from ec2_backup.progress import PHASES, State

ROOT = Path(__file__).parents[2]
# One backup with --verify, one restore and one verify, as ansible-runner told them; only the fields that matter.
EVENTS = json.loads(Path(__file__).with_name("data").joinpath("events.json").read_text())
ARCHIVE = 80740352
MIB = 1024 * 1024
BEFORE_READING = "starting, finding the volume, launching, attaching the volume, waiting for SSH, reading the manifest"


def replay(command: str, counters: Mapping[float, tuple[int | None, int]] | None = None, until: float = 99) -> State:
    """The state when the events of a recorded run, and what its counter said when, have been taken in."""
    state = progress.after_begin(progress.start(-1.0), command, -0.5)
    inputs: list[tuple[float, Any, tuple[int | None, int] | None]]
    inputs = [(event["at"], event, None) for event in EVENTS[command]]
    inputs += [(at, None, counted) for at, counted in (counters or {}).items()]
    for at, event, counted in sorted(inputs, key=lambda item: item[0]):
        if at <= until:
            state = progress.after_count(state, *counted, at) if counted else progress.after_event(state, event, at)
    return state


def begin_of(command: str, module: str) -> float:
    """When the task of a module began in a recorded run."""
    return next(
        float(event["at"])
        for event in EVENTS[command]
        if event["event"] == "playbook_on_task_start" and event["event_data"]["task_action"].endswith(module)
    )


@pytest.mark.parametrize(
    ("command", "phases"),
    [
        (
            "backup",
            "starting, measuring, launching, waiting for SSH, streaming, verifying, committing, cleaning up",
        ),
        (
            "restore",
            BEFORE_READING + ", restoring, cleaning up",
        ),
        (
            "verify",
            BEFORE_READING + ", verifying, cleaning up",
        ),
    ],
)
def test_a_run_goes_through_its_phases_in_the_users_words_and_their_times_add_up(command, phases):
    state = replay(command)
    spent = progress.phases(state, 30.0)
    assert ", ".join(spent) == phases
    assert sum(spent.values()) == pytest.approx(31.0)


def test_every_phase_names_a_file_that_there_is():
    assert [place for place in PHASES if not (ROOT / "roles" / place[0] / "tasks" / f"{place[1]}.yml").is_file()] == []
    assert progress.LISTS_FILES in str(yaml.safe_load((ROOT / "roles/restore/vars/main.yml").read_text()))


def test_a_list_of_files_is_no_restore_though_the_same_steps_make_it():
    path = "/roles/stream/tasks/receive.yml:2"
    state = progress.after_begin(progress.start(0), "restore", 0)
    for task in (progress.LISTS_FILES, "Check that this host could be reached while reading the volume"):
        event = {"event": "playbook_on_task_start", "event_data": {"task": task, "task_path": path}}
        state = progress.after_event(state, event, 1)
        assert state.phase == progress.LISTING


def test_a_cleanup_after_an_interrupted_play_is_a_phase_from_its_begin_on():
    state = replay("backup", until=begin_of("backup", "stream_send"))
    assert progress.after_begin(state, "cleanup", 50.0).phase == "cleaning up"
    assert progress.after_begin(progress.start(0.0), "cleanup", 0.1).phase == "cleaning up"


def test_a_stream_is_told_with_its_amount_percent_rate_and_time_left():
    at = begin_of("backup", "stream_send")
    counters = {at + 0.25 * n: (n * 2 * MIB, n * 2 * MIB) for n in range(5)}
    state = replay("backup", counters, until=at + 1)
    assert progress.line(state, at + 1) == "streaming 10%, 8.0 MiB of 77.0 MiB, 8.0 MiB/s, 9 s left"
    assert progress.as_object(state, at + 1) == {
        "type": "progress",
        "elapsed": round(at + 2, 1),
        "phase": "streaming",
        "phase_elapsed": pytest.approx(1.0, abs=0.1),
        "bytes": 8 * MIB,
        "total": ARCHIVE,
        "percent": 10,
        "rate": 8 * MIB,
        "seconds_left": 9,
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


def test_the_summary_tells_the_amount_and_where_the_time_went():
    assert progress.summary(replay("backup"), 21.6).startswith("77.0 MiB in 23 s: starting 1 s, measuring 1 s, launch")
    assert progress.summary(replay("restore"), 20.6).startswith("77.0 MiB in 22 s: ")
    assert progress.summary(replay("verify"), 21.6).startswith("77.0 MiB in 23 s: ")
    assert progress.summary_object(replay("backup"), 21.6)["bytes"] == ARCHIVE


def test_the_summary_tells_a_filters_work_and_an_unfinished_stream():
    args = {"module_args": {"local_filter": "zstd"}}
    sent = {"task_action": "ec2_backup.ebs.stream_send", "res": {"bytes": 20 * MIB, "invocation": args}}
    done = progress.after_event(streaming(), {"event": "runner_on_ok", "event_data": sent}, 8.0)
    assert progress.summary(done, 9.0) == "100.0 MiB (20.0 MiB sent) in 9 s: streaming 9 s"
    cut = progress.enter(progress.after_count(streaming(), 30 * MIB, 30 * MIB, 5.0), progress.CLEANING, 6.0)
    assert progress.summary(cut, 9.0) == "30.0 MiB of 100.0 MiB in 9 s: streaming 6 s, cleaning up 3 s"


@pytest.mark.parametrize("width", range(1, 80))
def test_a_live_line_fits_its_terminal_whatever_its_width(width):
    state = progress.after_count(progress.after_count(streaming(), MIB, MIB, 1.0), 43 * MIB, 43 * MIB, 3.0)
    assert len(progress.live(state, 3.0, width)) <= width
    assert len(progress.live(replay("backup", until=9), 12.0, width)) <= width


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
    names = [progress.step_name(event) for event in EVENTS["backup"]]
    assert [name for name in names if name][:2] == ["Check and measure the directory", "Find the subnet"]
