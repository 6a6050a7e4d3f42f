# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a command is: from Ansible's events, the stream's counter and the time to a state, and that in words.

Pure: nothing here reads a file or a clock. Times are seconds of one monotonic clock, amounts are bytes.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

STARTING = "starting"
CLEANING = "cleaning up"
COMMITTING = "committing"
LAUNCHING = "launching"
CHECKING = "checking"
MEASURING = "measuring"
STREAMING = "streaming"
RESTORING = "restoring"
LISTING = "listing the files"
VERIFYING = "verifying"

# A step's phase is told by where it stands, (role, file): so what no user cares for need not be named. What stands
# elsewhere goes on with the phase before it.
PHASES = {
    ("source", "main"): MEASURING,
    ("volume", "adopt"): "finding the volume",
    ("volume", "open"): "finding the volume",
    ("session", "open"): LAUNCHING,
    ("instance", "plan"): LAUNCHING,
    ("instance", "group"): LAUNCHING,
    ("instance", "launch"): LAUNCHING,
    ("instance", "running"): LAUNCHING,
    ("volume", "attach"): "attaching the volume",
    ("instance", "ready"): "waiting for SSH",
    ("stream", "describe"): "reading the manifest",
    ("stream", "send"): STREAMING,
    ("stream", "receive"): RESTORING,
    ("stream", "check"): VERIFYING,
    ("volume", "commit"): COMMITTING,
    ("session", "end"): CLEANING,
    ("session", "close"): CLEANING,
    ("instance", "terminate"): CLEANING,
    ("cleanup", "main"): CLEANING,
    ("catalog", "main"): "looking for volumes",
}
LISTS_FILES = "Stream the list of files from the volume"
# The phases in which bytes go by.
MOVING = (STREAMING, RESTORING, LISTING, VERIFYING)
WINDOW = 10.0  # the rate is that of the last so many seconds
_FILE = re.compile(r"/roles/([^/]+)/tasks/([^/]+)\.yml(?::\d+)?$")


@dataclasses.dataclass(frozen=True)
class State:
    """How far a command is."""

    began: float
    """When the command began."""
    since: float
    """When the phase began."""
    phase: str = STARTING
    command: str = ""
    """The playbook that began first."""
    spent: tuple[tuple[str, float], ...] = ()
    """The seconds of the phases that are over, in the order in which they came first."""
    total: int | None = None
    """The archive's length, if it is known."""
    taken: int | None = None
    """How much of it has gone by in this phase, if that is known."""
    before: int = 0
    """How much went by in earlier phases: of other volumes, too."""
    sent: int = 0
    """How much of it went over SSH: less than taken behind a filter."""
    whole: bool = False
    """Whether the stream that began last came to its end."""
    samples: tuple[tuple[float, int], ...] = ()
    """When how much had gone by, for the rate."""
    rehearsal: bool = False
    """Whether nothing is going to be made: the steps of a launch only check it."""


def start(now: float) -> State:
    """A command that begins."""
    return State(began=now, since=now)


def enter(state: State, phase: str, now: float) -> State:
    """The state as a phase begins, if it is not the same anyway."""
    if phase == state.phase:
        return state
    begins = phase in MOVING and not (phase == VERIFYING and state.command == "backup")
    return dataclasses.replace(
        state,
        phase=phase,
        since=now,
        spent=tuple(phases(state, now).items()),
        taken=None,
        before=state.before + (state.taken or 0),
        samples=(),
        whole=state.whole and not begins,
    )


def phases(state: State, now: float) -> dict[str, float]:
    """The seconds spent in each phase so far, in the order in which they came first."""
    spent = dict(state.spent)
    spent[state.phase] = spent.get(state.phase, 0.0) + now - state.since
    return spent


def after_begin(state: State, playbook: str, now: float) -> State:
    """The state when a playbook is about to be started."""
    if not state.command:
        state = dataclasses.replace(state, command=playbook)
    return enter(state, CLEANING, now) if playbook == "cleanup" else state


def after_event(state: State, event: Mapping[str, Any], now: float) -> State:
    """The state after one of ansible-runner's events."""
    data = event.get("event_data") or {}
    match event.get("event"):
        case "playbook_on_task_start":
            phase = _phase(state, data)
            return enter(state, phase, now) if phase else state
        case "runner_on_ok":
            return _after_success(state, str(data.get("task_action")).rpartition(".")[2], data.get("res") or {})
    return state


def step_name(event: Mapping[str, Any]) -> str | None:
    """The name of a step that begins; None for all else, and for Ansible's own housekeeping between the steps."""
    data = event.get("event_data") or {}
    if event.get("event") != "playbook_on_task_start" or str(data.get("task_action")).startswith("ansible.builtin."):
        return None
    return str(data.get("task"))


def _phase(state: State, data: Mapping[str, Any]) -> str | None:
    found = _FILE.search(str(data.get("task_path")))
    if not found:
        return None
    place = (found[1], found[2])
    if place == ("volume", "detach"):  # of a backup's volume it is the commit
        return COMMITTING if state.command == "backup" else CLEANING
    if place == ("stream", "receive") and (state.command == "verify" or state.phase == LISTING):
        return LISTING if state.phase == LISTING else VERIFYING
    phase = LISTING if data.get("task") == LISTS_FILES else PHASES.get(place)
    return CHECKING if phase == LAUNCHING and state.rehearsal else phase


def _after_success(state: State, module: str, result: Mapping[str, Any]) -> State:
    if module == "set_fact":
        session = (result.get("ansible_facts") or {}).get("__ec2_backup_session") or {}
        return dataclasses.replace(state, rehearsal=state.rehearsal or bool(session.get("dry_run")))
    if module == "source_info" and state.command == "backup":
        return dataclasses.replace(state, total=result.get("archive_bytes"))
    if module == "manifest_info":
        manifest = result.get("manifest") or {}
        return dataclasses.replace(state, total=(manifest.get("stream") or {}).get("bytes"))
    if module == "stream_send":
        sent = int(result.get("bytes") or 0)
        asked = (result.get("invocation") or {}).get("module_args") or {}
        # Of the archive before the filter no length is known but the measured one.
        taken = state.total if asked.get("local_filter") else sent
        return dataclasses.replace(state, taken=taken, sent=sent, whole=True)
    if module == "stream_receive":
        received = int(result.get("bytes") or 0)
        return dataclasses.replace(state, taken=received, sent=received, whole=True)
    if module == "stream_check" and state.command == "verify":  # what it read did not come by here
        return dataclasses.replace(state, taken=state.total, sent=state.total or 0, whole=True)
    return state


def after_count(state: State, taken: int | None, sent: int, now: float) -> State:
    """The state when the stream's counter says this; counters never run backwards."""
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
    """What can be told of a stream; None where it is not known."""

    taken: int | None = None
    total: int | None = None
    percent: int | None = None
    rate: float | None = None
    """Bytes a second."""
    left: float | None = None
    """Seconds."""


def figures(state: State) -> Figures:
    """What can be told of the stream that goes by now."""
    if state.phase not in MOVING:
        return Figures()
    taken = state.taken
    # An archive that has outgrown its measure has a length that nobody knows.
    total = state.total if state.total and (taken or 0) <= state.total else None
    percent = 100 * taken // total if total and taken is not None else None
    rate = left = None
    if len(state.samples) > 1:
        (first, low), (last, high) = state.samples[0], state.samples[-1]
        rate = (high - low) / (last - first) if last - first >= 1 else None
    if rate and total and taken is not None:
        left = (total - taken) / rate
    return Figures(taken, total, percent, rate, left)


# ---- in words -------------------------------------------------------------------------------------------------------


def binary(count: int | None) -> str:
    """A number of bytes for people: ``1.4 GiB``."""
    if count is None or count < 1024:
        return "-" if count is None else f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:  # what is not rounded to 1024.0
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Some time for people: ``9 s``, ``2 min 5 s``, ``3 h 10 min``, ``2 d 4 h``."""
    whole = round(seconds)
    for above, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= above:
            rest = whole % above // below
            return f"{whole // above} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def amount(known: Figures) -> str:
    """How much of how much: ``612.0 MiB of 1.4 GiB``; an empty string if neither is known."""
    if known.taken is None:
        return binary(known.total) if known.total else ""
    return binary(known.taken) + (f" of {binary(known.total)}" if known.total else "")


def line(state: State, now: float) -> str:
    """The state in one line: ``streaming 43%, 612.0 MiB of 1.4 GiB, 121.0 MiB/s, 7 s left``."""
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
    """The state in one line of a terminal, at most ``width`` characters: with a bar if there is room for one.

    :param marks: what the bar is made of: what is done, what is not.
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
    while len(parts) > 1 and len(", ".join(parts)) > width:  # what matters least is the rate, then the amount
        del parts[-2 if len(parts) > 2 else -1]
    return ", ".join(parts)[: max(0, width)]


def summary(state: State, now: float) -> str:
    """What it took, in one line: ``1.4 GiB in 35 s: launching 6 s, waiting for SSH 12 s, streaming 11 s``."""
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
    """The state for programs; docs/progress.md tells the fields."""
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
    """What it took, for programs; docs/progress.md tells the fields."""
    return {
        "type": "summary",
        "elapsed": round(now - state.began, 1),
        "bytes": state.before + (state.taken or 0),
        "phases": {phase: round(seconds, 1) for phase, seconds in phases(state, now).items()},
    }
