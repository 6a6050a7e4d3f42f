# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a command is: a state, made from the play's milestones, its streams' byte counts and the time; and as text.

Nothing here reads a file or a clock. Times are seconds of one monotonic clock, amounts are bytes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import ACTION, MOVING
from ec2_backup.run.outcome import milestone

STARTING = "starting"
READING = "reading the manifest"
STREAMING = "streaming"
VERIFYING = "verifying"
CLEANING = "cleaning up"
WINDOW = 10.0  # seconds over which the rate is measured


@dataclasses.dataclass(frozen=True)
class State:
    """How far a command is."""

    began: float
    """When the command began."""
    since: float
    """When the phase began."""
    phase: str = STARTING
    command: str = ""
    """The first playbook that was started."""
    spent: tuple[tuple[str, float], ...] = ()
    """The seconds of the phases that are over, in the order in which each came first."""
    total: int | None = None
    """The archive's length, if it is known."""
    taken: int | None = None
    """How much of the archive was moved in this phase, if that is known."""
    before: int = 0
    """How much was moved in earlier phases, also of other volumes."""
    sent: int = 0
    """How much went over SSH; less than ``taken`` if a local filter compresses."""
    whole: bool = False
    """Whether the stream that began last came to its end."""
    samples: tuple[tuple[float, int], ...] = ()
    """Times, and how much had been moved by then, for the rate."""


def start(now: float) -> State:
    """Return the state of a command that begins."""
    return State(began=now, since=now)


def _read_back(state: State, phase: str) -> bool:
    """Return whether a phase reads a backup back on its instance.

    Its bytes are not moved to here, and not counted again.
    """
    return phase == VERIFYING and state.command == "backup"


def enter(state: State, phase: str, now: float) -> State:
    """Return the state after a phase has begun."""
    if phase == state.phase:
        return state
    begins = phase in MOVING and not _read_back(state, phase)
    return dataclasses.replace(
        state,
        phase=phase,
        since=now,
        spent=tuple(phases(state, now).items()),
        total=None if phase == READING else state.total,  # of the next volume
        taken=None,
        before=state.before + (state.taken or 0),
        samples=(),
        whole=state.whole and not begins,
    )


def phases(state: State, now: float) -> dict[str, float]:
    """Return the seconds spent in each phase so far, in the order in which each came first."""
    spent = dict(state.spent)
    spent[state.phase] = spent.get(state.phase, 0.0) + now - state.since
    return spent


def after_begin(state: State, playbook: str, now: float) -> State:
    """Return the state when a playbook is about to be started: ``cleanup`` is a phase of its own after another one."""
    if not state.command:
        state = dataclasses.replace(state, command=playbook)
    return enter(state, CLEANING, now) if playbook == "cleanup" else state


def after_event(state: State, event: Mapping[str, Any], now: float) -> State:
    """Return the state after one of ansible-runner's events."""
    said = milestone(event)
    if "phase" in said:
        state = enter(state, said["phase"], now)
    if "total" in said:
        state = dataclasses.replace(state, total=said["total"])
    if "moved" in said and not _read_back(state, state.phase):
        # Where nobody counted, all of the archive was moved.
        moved = {"taken": said["moved"].get("taken", state.total), "sent": said["moved"]["sent"]}
        state = dataclasses.replace(state, **moved, whole=True)
    return state


def steps(event: Mapping[str, Any]) -> list[str]:
    """Return what ``--verbose`` shows of an event: the name of a task that begins, or the notices of a milestone.

    Not shown are what Ansible does by itself, and notices that come with a result, which is shown anyway.
    """
    said = milestone(event)
    if said:
        return [] if "result" in said else list(said.get("notice", []))
    data = event.get("event_data") or {}
    action = str(data.get("task_action"))
    if event.get("event") != "playbook_on_task_start" or action == ACTION or action.startswith("ansible.builtin."):
        return []
    return [str(data.get("task"))]


def after_count(state: State, taken: int | None, sent: int, now: float) -> State:
    """Return the state after the stream's byte count was read; an amount never becomes smaller."""
    if state.phase not in MOVING or state.whole:
        return state
    sent = max(sent, state.sent)
    if taken is None:
        return dataclasses.replace(state, sent=sent)
    taken = max(taken, state.taken or 0)
    first = next((time for time, _ in reversed(state.samples) if time <= now - WINDOW), 0.0)
    samples = (*(sample for sample in state.samples if sample[0] >= first), (now, taken))
    return dataclasses.replace(state, taken=taken, sent=sent, samples=samples)


@dataclasses.dataclass(frozen=True)
class Figures:
    """The figures of a stream; None for what is not known."""

    taken: int | None = None
    total: int | None = None
    percent: int | None = None
    rate: float | None = None
    """Bytes a second."""
    left: float | None = None
    """Seconds."""


def figures(state: State) -> Figures:
    """Return the figures of the stream of this phase; none in a phase without one."""
    if state.phase not in MOVING:
        return Figures()
    taken = state.taken
    # The directory has grown since it was measured: the length is not known any more.
    total = state.total if state.total and (taken or 0) <= state.total else None
    percent = 100 * taken // total if total and taken is not None else None
    rate = left = None
    if len(state.samples) > 1:
        (first, low), (last, high) = state.samples[0], state.samples[-1]
        rate = (high - low) / (last - first) if last - first >= 1 else None
    if rate and total and taken is not None:
        left = (total - taken) / rate
    return Figures(taken, total, percent, rate, left)


# ---- as text ---------------------------------------------------------------------------------------------------------


def binary(count: int | None) -> str:
    """Return a number of bytes for people: ``1.4 GiB``."""
    if count is None or count < 1024:
        return "-" if count is None else f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:  # otherwise it would be shown as 1024.0
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a duration for people: ``9 s``, ``2 min 5 s``, ``3 h 10 min``, ``2 d 4 h``."""
    whole = round(seconds)
    for above, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= above:
            rest = whole % above // below
            return f"{whole // above} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def amount(known: Figures) -> str:
    """Return how much of how much was moved: ``612.0 MiB of 1.4 GiB``; an empty string if neither is known."""
    if known.taken is None:
        return binary(known.total) if known.total else ""
    return binary(known.taken) + (f" of {binary(known.total)}" if known.total else "")


def line(state: State, now: float) -> str:
    """Return the state in one line: ``streaming 43%, 612.0 MiB of 1.4 GiB, 121.0 MiB/s, 7 s left``."""
    known = figures(state)
    if known.taken is None:
        parts = [amount(known), f"{binary(state.sent)} sent" if state.phase == STREAMING and state.sent else ""]
        return ", ".join([state.phase, *filter(None, parts), duration(now - state.since)])
    head = state.phase if known.percent is None else f"{state.phase} {known.percent}%"
    return ", ".join(filter(None, [head, amount(known), *_speed(known)]))


def _speed(known: Figures) -> list[str]:
    rate = "" if known.rate is None else f"{binary(int(known.rate))}/s"
    return [rate, "" if known.left is None else f"{duration(known.left)} left"]


def live(state: State, now: float, width: int, marks: str = "━─") -> str:
    """Return the state in one line of a terminal, at most ``width`` characters: with a bar if there is room for one.

    :param marks: the bar's two characters: for what is done, and for what is not.
    """
    text = line(state, now)
    known = figures(state)
    if len(text) <= width:
        head, comma, rest = text.partition(", ")
        room = min(width - len(text) - 1, 30)
        if known.percent is None or room < 8:
            return text
        done = room * known.percent // 100
        return f"{head} {marks[0] * done}{marks[1] * (room - done)} {rest}" if comma else text
    parts = text.split(", ")
    while len(parts) > 1 and len(", ".join(parts)) > width:  # the rate goes first, then the amount
        del parts[-2 if len(parts) > 2 else -1]
    return ", ".join(parts)[: max(0, width)]


def summary(state: State, now: float) -> str:
    """Return what a command took, in one line.

    For example ``1.4 GiB in 35 s: launching 6 s, waiting for SSH 12 s, streaming 11 s``.
    """
    took = duration(now - state.began)
    done = state.before + (state.taken or 0)
    if done:
        incomplete = state.total and not state.whole and state.command != "verify"
        moved = binary(done) + (f" of {binary(state.total)}" if incomplete else "")
        filtered = state.whole and state.sent and state.command == "backup" and state.sent != done
        took = f"{moved}{f' ({binary(state.sent)} sent)' if filtered else ''} in {took}"
    spent = [f"{phase} {duration(seconds)}" for phase, seconds in phases(state, now).items() if seconds >= 0.5]
    return f"{took}: {', '.join(spent)}" if spent else took


def as_object(state: State, now: float) -> dict[str, Any]:
    """Return the state for programs; docs/progress.md describes the fields."""
    known = figures(state)
    return {
        "type": "progress",
        "elapsed": round(now - state.began, 1),
        "phase": state.phase,
        "phase_elapsed": round(now - state.since, 1),
        "bytes": known.taken,
        "total": known.total if state.phase in MOVING else state.total,
        "percent": known.percent,
        "rate": None if known.rate is None else int(known.rate),
        "seconds_left": None if known.left is None else round(known.left),
    }


def summary_object(state: State, now: float) -> dict[str, Any]:
    """Return what a command took, for programs; docs/progress.md describes the fields."""
    return {
        "type": "summary",
        "elapsed": round(now - state.began, 1),
        "bytes": state.before + (state.taken or 0),
        "phases": {phase: round(seconds, 1) for phase, seconds in phases(state, now).items()},
    }
