"""A short selection of the fault campaign, for every run of the tests. `make faults` plays the campaign itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults import cases, stage
from tests.faults.cases import Case

pytestmark = pytest.mark.timeout(900)  # a case has a deadline of its own, which a loaded machine may come close to


def play(kind: str, fits: Callable[[Case], bool] = lambda case: True) -> list[int | None]:
    """Play the first case of a kind that fits; its exit statuses. Fails if an invariant is broken."""
    case = next(case for case in (cases.make(1, kind, variant) for variant in range(500)) if fits(case))
    verdict = stage.play(case)
    assert verdict.violations == [], f"{case}: {verdict}"
    assert not verdict.missed, f"{case}: {verdict}"
    return verdict.statuses


def at(event: str, signal: str = "", target: str = "") -> Callable[[Case], bool]:
    """Whether a case's first step is at this event, with this signal, to this target."""

    def fits(case: Case) -> bool:
        step = case.steps[0]
        return step.moment.event == event and signal in ("", step.signal) and target in ("", step.target)

    return fits


def test_a_backup_interrupted_in_mid_stream_leaves_nothing_and_says_so_with_its_status():
    assert play("signal-wrapper", at("streaming", "SIGINT")) == [130]


@pytest.mark.heavy
def test_an_instance_that_is_made_after_the_signal_that_ended_its_run_is_found_and_ended():
    late = at("launching", "SIGTERM", "group")
    assert play("signal-group", lambda case: late(case) and bool(case.faults)) == [143]


def test_the_watchdog_ends_an_instance_whose_run_was_killed_with_all_its_processes():
    assert play("kill-everything", at("streaming")) == [137]


def test_a_launch_whose_reply_is_lost_leaves_no_instance():
    play("api-lost-reply", lambda case: "RunInstances" in case.detail)


@pytest.mark.heavy
def test_of_two_backups_onto_one_volume_one_succeeds_and_the_other_harms_nothing():
    assert sorted(map(str, play("two-on-one-volume"))) == ["0", "1"]
