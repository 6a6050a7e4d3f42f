"""Makes a case from seed, kind and variant: decides what is done, and does nothing itself."""

from __future__ import annotations

import dataclasses
import itertools
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

MB = 1_000_000

# How to see from outside that a run has come to a point. `text` is part of a task's name, which the wrapper prints with
# --verbose and ansible-playbook prints on stdout; `call` an API action in the lab's log, `tag` a value it must carry.
EVENTS: dict[str, dict[str, str]] = {
    "start": {},
    "measuring": {"text": "measure the directory"},
    "planning": {"call": "DescribeSubnets"},
    "keys": {"file": "client"},
    "group": {"call": "CreateSecurityGroup"},
    "launching": {"text": "Launch the instance"},
    "launched": {"call": "RunInstances"},
    "running": {"text": "Wait until the instance runs"},
    "attaching": {"call": "AttachVolume"},
    "ssh": {"text": "Wait until a command over SSH succeeds"},
    "connecting": {"text": "Stream the directory"},
    "streaming": {"gate": "reached"},
    "tagging": {"call": "CreateTags", "tag": "complete"},
    "detaching": {"call": "DetachVolume"},
    "terminating": {"call": "TerminateInstances"},
    "ending": {"call": "DeleteSecurityGroup"},
    "then": {},  # after the step before
}
PHASES = [name for name in EVENTS if name not in ("then", "attaching")]
AFTER_THE_STREAM = ("tagging", "detaching", "terminating", "ending")

POLITE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
# By amazon.aws.ec2_instance, after the launch (DescribeInstanceAttribute twice, for two attributes).
CALLED_ONCE = ("DescribeInstanceStatus", "DescribeInstanceAttribute")
ALL_ACTIONS = (
    *("DescribeSubnets", "GetParameter", "DescribeSecurityGroups", "DescribeTags"),
    *("CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "DescribeInstances", "CreateTags"),
    *("DeleteTags", "DescribeVolumes", "AttachVolume", "DetachVolume", "TerminateInstances", "DeleteSecurityGroup"),
    *CALLED_ONCE,
)
EARLY = (
    *("DescribeSubnets", "GetParameter"),
    *("CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "AttachVolume"),
)
EFFECTS = (
    *("CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "CreateTags", "AttachVolume"),
    *("DetachVolume", "TerminateInstances", "DeleteSecurityGroup"),
)
TRANSIENT = ("RequestLimitExceeded", "InternalError", "ServiceUnavailable")
DENIED = ("UnauthorizedOperation",)
EXPIRED = ("RequestExpired", "ExpiredToken")

USUAL_SECONDS = 240.0
# For cases in which botocore backs off, and the run waits until EC2 is less busy: 300 s for a launch, then the cleanup.
LONG_SECONDS = 540.0
# The watchdog's idle limit in cases in which only the watchdog is left. On a loaded machine it is long from the boot to
# the first login.
IDLE_SECONDS = 15
# ... so long that the watchdog may have ended the instance by then, and the run waits for SSH in vain.
READY_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Moment:
    """A point of a run: an event that is seen, and some seconds more."""

    event: str = "start"
    delay: float = 0.0
    run: int = 0

    def __str__(self) -> str:
        return f"{self.event}+{self.delay:.2f}"


@dataclasses.dataclass(frozen=True)
class Step:
    """Something that is done to a run at a moment: ``signal``, ``faults`` (of the lab), ``source`` or ``fill``."""

    moment: Moment
    act: str
    target: str = ""
    signal: str = ""
    faults: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Gate:
    """The local filter that slows a stream, and may hold it (gate.py). ``part``: of the large file."""

    part: float
    rate: int
    hold: bool = False


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """One backup."""

    door: str = "wrapper"  # or "playbook"
    volume: str = "new"  # or "given", "used" (given, with an earlier backup on it), "same" (the one of run 0)
    gate: Gate | None = None
    local_filter: str = ""
    stdout: str = "file"  # or "closed", "broken" (a pipe without a reader)
    weak: bool = False  # root without the power to read what is not readable
    variables: tuple[str, ...] = ()
    delay: float = 0.0  # seconds from run 0's start to this one's
    statuses: tuple[int, ...] = (0,)
    """The exit statuses that are right; those of signals that it was sent itself come on top."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One case of the campaign."""

    seed: int
    kind: str
    variant: int
    runs: tuple[RunPlan, ...]
    steps: tuple[Step, ...] = ()
    faults: dict[str, Any] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    lab: dict[str, str] = dataclasses.field(default_factory=dict)
    large: int = 2 * MB
    """Bytes of the source's large file."""
    disk: int = 0
    """Bytes of the file system for temporary files; 0: the machine's."""
    orphaned: bool = False
    """Whether all that could clean up is killed, so that only the instance's watchdog is left, and then ``cleanup``."""
    api_down: bool = False
    """Whether EC2 may be refusing or silent when the run cleans up, so that it cannot know that nothing is left."""
    changing: tuple[str, ...] = ()
    """What of the source changes while it is read, relative to it."""
    winners: int = 0
    """How many of the runs must succeed; 0: only their statuses are checked."""
    idle: int = 0
    """The watchdog's idle limit in seconds; 0: the default, which is longer than any case."""
    seconds: float = USUAL_SECONDS
    """After which a run counts as hung."""

    @property
    def moment(self) -> str:
        """When it breaks, for the report."""
        return " ".join(str(step.moment) for step in self.steps) or "all along"

    @property
    def detail(self) -> str:
        """What is done, for the report."""
        words = [" ".join(filter(None, (step.signal, step.target))) or words_of(step.faults) for step in self.steps]
        doors = "/".join(f"{run.door[0]}:{run.volume}" for run in self.runs)
        return ", ".join(filter(None, [*words, words_of(self.faults), doors]))


def words_of(faults: dict[str, Any]) -> str:
    """A faults file in a few words."""
    return " ".join(
        "{action}{count}:{what}".format(
            action=entry["action"],
            count="" if entry.get("always") else f"#{entry['nth']}" if "nth" in entry else f"x{entry.get('times', 1)}",
            what=entry.get("code") or ("lost" if entry.get("drop") else f"delay {entry.get('delay')}"),
        )
        for entry in faults.get("api", [])
    )


Maker = Callable[["Draw"], dict[str, Any]]
KINDS: dict[str, tuple[int, Maker]] = {}
"""Each kind's weight in the campaign, and the function that makes its cases."""


class Draw:
    """The random decisions of one case. The same seed, kind and variant always give the same decisions."""

    def __init__(self, seed: int, kind: str, variant: int) -> None:
        self.seed, self.kind, self.variant = seed, kind, variant
        self.random = random.Random(f"{seed}/{kind}/{variant}")

    def one(self, *choices: Any) -> Any:
        """One of these."""
        return self.random.choice(choices)

    def each(self, *dimensions: Any) -> Any:
        """The variant's combination of these, in an order by the seed; all are used before any is repeated."""
        cells = list(itertools.product(*dimensions))
        random.Random(f"{self.seed}/{self.kind}").shuffle(cells)
        return cells[self.variant % len(cells)]

    def between(self, low: float, high: float) -> float:
        """A number between these, with three decimals."""
        return round(self.random.uniform(low, high), 3)

    def at(self, event: str, run: int = 0) -> Moment:
        """A moment soon after an event. Before the first of them the interpreter starts, which takes longer."""
        return Moment(event, self.between(0, 2.0 if event == "start" else 0.5), run)

    def gate(self, hold: bool = False) -> Gate:
        """A filter that leaves a second or two to break a stream of 8 MB."""
        return Gate(self.between(0.1, 0.6), self.one(4, 6) * MB, hold)

    def run_until(self, event: str, **more: Any) -> RunPlan:
        """A backup by the wrapper that will pass the event."""
        volume = "used" if event == "attaching" else self.one("new", "new", "given", "used")
        gate = self.gate() if event == "streaming" else None
        return RunPlan(**{"volume": volume, "gate": gate, **more})


def kind(name: str, weight: int = 1) -> Callable[[Maker], Maker]:
    """Register the function that makes the cases of a kind."""

    def register(maker: Maker) -> Maker:
        KINDS[name] = (weight, maker)
        return maker

    return register


def make(seed: int, name: str, variant: int) -> Case:
    """The case with these coordinates."""
    draw = Draw(seed, name, variant)
    lab = {
        "EC2_LAB_PENDING": str(draw.between(0.3, 1.0)),
        "EC2_LAB_BOOT": str(draw.between(0.3, 1.0)),
        "EC2_LAB_SHUTDOWN": str(draw.between(0.2, 0.8)),
        "EC2_LAB_VOLUME_CREATING": str(draw.between(0.2, 0.5)),
        "EC2_LAB_ATTACH": str(draw.between(0.2, 0.8)),
        "EC2_LAB_DEVICE": str(draw.between(0.1, 0.5)),
        "EC2_LAB_DETACH": str(draw.between(0.2, 0.8)),
        "EC2_LAB_DEVICES": draw.one("nitro", "nitro", "nitro", "xen"),
    }
    return Case(seed, name, variant, **{"lab": lab, **KINDS[name][1](draw)})


def campaign(seed: int) -> Iterator[Case]:
    """The seed's cases without end: block after block, in each of them every kind as often as its weight says."""
    turns: dict[str, int] = dict.fromkeys(KINDS, 0)
    for block in itertools.count():
        names = [name for name, (weight, _) in KINDS.items() for _ in range(weight)]
        random.Random(f"{seed}/block/{block}").shuffle(names)
        for name in names:
            yield make(seed, name, turns[name])
            turns[name] += 1


def status_of(name: str) -> int:
    """The exit status of a command that was ended by a signal."""
    return 128 + int(signal.Signals[name])


# ---- the kinds ------------------------------------------------------------------------------------------------------


def launch_delay(draw: Draw, phase: str) -> dict[str, Any]:
    """Sometimes RunInstances takes long, so that the signal comes during the call and the instance is made after it."""
    if phase in ("launching", "group") and draw.one(True, True, False):
        return {"api": [{"action": "RunInstances", "always": True, "delay": draw.between(1.0, 2.5)}]}
    return {}


def signalled(draw: Draw, phase: str, target: str, names: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """A run that gets signals, the first of them in a phase."""
    to_us = target in ("wrapper", "group", "everything")
    late = (0, 3) if phase in AFTER_THE_STREAM else ()
    # Ansible ignores SIGHUP: ansible-runner spawns it with ignore_sighup. A real hangup ends the wrapper as well.
    on_ansible = (0,) if names[0] == "SIGHUP" else (1, *late)
    statuses = late if to_us else on_ansible
    steps = [Step(draw.at(phase), "signal", target, names[0])]
    steps += [Step(Moment("then", draw.between(0.0, 2.0)), "signal", target, name) for name in names[1:]]
    return {
        "runs": (draw.run_until(phase, statuses=statuses),),
        "steps": tuple(steps),
        "faults": launch_delay(draw, phase),
        "large": 8 * MB,
        **more,
    }


@kind("none")
def _(draw: Draw) -> dict[str, Any]:
    door, volume = draw.each(("wrapper", "playbook"), ("new", "given", "used"))
    return {"runs": (RunPlan(door, volume, gate=draw.one(None, draw.gate())),), "large": draw.one(1, 8, 40) * MB}


@kind("signal-wrapper", 5)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each(POLITE, [*PHASES, "attaching"])
    return signalled(draw, phase, "wrapper", (name,))


@kind("signal-ansible", 3)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each((*POLITE, "SIGKILL", "SIGKILL"), [*PHASES[1:], "attaching"])
    return signalled(draw, phase, "ansible", (name,))


@kind("signal-group", 3)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each(POLITE, [*PHASES, "attaching"])
    return signalled(draw, phase, "group", (name,))


@kind("signal-everything", 3)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each(POLITE, PHASES)
    return signalled(draw, phase, "everything", (name,))


@kind("signal-twice", 3)
def _(draw: Draw) -> dict[str, Any]:
    phase, target = draw.each(PHASES, ("wrapper", "group", "everything"))
    return signalled(draw, phase, target, (draw.one(*POLITE), draw.one(*POLITE)))


def killed(draw: Draw, phase: str, target: str) -> dict[str, Any]:
    """A run that is killed with all that could clean up after it."""
    made = signalled(draw, phase, target, ("SIGKILL",), orphaned=True, idle=IDLE_SECONDS)
    (run,) = made["runs"]
    times = (f"ec2_backup_idle_timeout={IDLE_SECONDS}", f"ec2_backup_ready_timeout={READY_SECONDS}")
    variables = (*run.variables, *times)
    return {**made, "runs": (dataclasses.replace(run, variables=variables, statuses=(0, 1, 3)),)}


@kind("kill-wrapper", 2)
def _(draw: Draw) -> dict[str, Any]:
    (phase,) = draw.each(PHASES)
    return killed(draw, phase, draw.one("wrapper", "group"))


@kind("kill-everything", 3)
def _(draw: Draw) -> dict[str, Any]:
    (phase,) = draw.each(PHASES)
    return killed(draw, phase, "everything")


def stream_broken(draw: Draw, target: str, name: str, **more: Any) -> dict[str, Any]:
    """A run one of whose processes, on the host or on the instance, gets a signal while it streams."""
    door, volume = draw.each(("wrapper", "wrapper", "playbook"), ("new", "given", "used"))
    run = RunPlan(door, volume, gate=draw.gate(), statuses=(1,) if door == "wrapper" else (2,))
    return {"runs": (run,), "steps": (Step(draw.at("streaming"), "signal", target, name),), "large": 8 * MB, **more}


@kind("sshd-killed", 2)
def _(draw: Draw) -> dict[str, Any]:
    return stream_broken(draw, "sshd", "SIGKILL")


@kind("sshd-frozen", 2)
def _(draw: Draw) -> dict[str, Any]:
    quick = {"EC2_BACKUP_FLAGS_SSH": "-o ServerAliveInterval=1 -o ServerAliveCountMax=3"}
    return stream_broken(draw, "sshd", "SIGSTOP", environment=quick)


@kind("dd-killed")
def _(draw: Draw) -> dict[str, Any]:
    return stream_broken(draw, "dd", "SIGKILL")


@kind("tar-killed", 2)
def _(draw: Draw) -> dict[str, Any]:
    return stream_broken(draw, "tar", draw.one("SIGKILL", "SIGTERM", "SIGPIPE"))


@kind("ssh-killed", 2)
def _(draw: Draw) -> dict[str, Any]:
    return stream_broken(draw, "ssh", draw.one("SIGKILL", "SIGTERM", "SIGHUP"))


@kind("volume-full")
def _(draw: Draw) -> dict[str, Any]:
    (door, volume) = draw.each(("wrapper", "playbook"), ("new", "given", "used"))
    # More than the volume's GiB: no check can know that before the stream.
    inflate = "cat; head -c 1100000000 /dev/zero"
    run = RunPlan(door, volume, local_filter=inflate, statuses=(1,) if door == "wrapper" else (2,))
    return {"runs": (run,)}


def source_changes(draw: Draw, change: str, names: tuple[str, ...], *statuses: int, **more: Any) -> dict[str, Any]:
    """A run whose stream is held while its source is changed."""
    run = RunPlan(volume=draw.one("new", "given"), gate=Gate(draw.between(0.1, 0.4), 0, hold=True), statuses=statuses)
    step = Step(draw.at("streaming"), "source", change)
    made = {"runs": (dataclasses.replace(run, **more),), "steps": (step,), "large": 12 * MB, "changing": names}
    return made


@kind("source-truncated")
def _(draw: Draw) -> dict[str, Any]:
    return source_changes(draw, "truncate", ("m-large",), 3)


@kind("source-grown")
def _(draw: Draw) -> dict[str, Any]:
    return source_changes(draw, "grow", ("m-large",), 3)


@kind("source-removed")
def _(draw: Draw) -> dict[str, Any]:
    if draw.variant % 2:
        return source_changes(draw, "remove later", (".", "z", "z/file-1", "z-last"), 0, 3)
    return source_changes(draw, "remove", (".", "m-large"), 3)


@kind("source-unreadable")
def _(draw: Draw) -> dict[str, Any]:
    return source_changes(draw, "lock", ("z/file-1",), 3, weak=True)


@kind("source-directory-removed")
def _(draw: Draw) -> dict[str, Any]:
    if draw.variant % 2:
        return source_changes(draw, "remove all", (".", "a", "m-large", "z", "z-last"), 0, 1, 3)
    return source_changes(draw, "remove directory", (".", "z"), 0, 3)


def api_run(draw: Draw, action: str, *statuses: int, **more: Any) -> RunPlan:
    """A backup that makes a call of the action."""
    # Only a given volume is attached, and has tags of an earlier backup that are removed.
    volume = {"AttachVolume": "given", "DeleteTags": "used"}.get(action) or draw.one("new", "new", "given")
    return RunPlan(volume=volume, statuses=statuses, **more)


@kind("api-error-once", 3)
def _(draw: Draw) -> dict[str, Any]:
    action, code = draw.each(ALL_ACTIONS, TRANSIENT[:2])
    often = action.startswith("Describe") and action not in ("DescribeSubnets", *CALLED_ONCE)
    faults = {"api": [{"action": action, "nth": draw.one(1, 2) if often else 1, "code": code}]}
    return {"runs": (api_run(draw, action, 0, 1),), "faults": faults}


@kind("api-error-thrice", 3)
def _(draw: Draw) -> dict[str, Any]:
    action, code = draw.each(ALL_ACTIONS, TRANSIENT)
    return {
        "runs": (api_run(draw, action, 0, 1),),
        "faults": {"api": [{"action": action, "times": 3, "code": code}]},
        "seconds": LONG_SECONDS,
    }


def api_always(draw: Draw, entry: dict[str, Any], event: str, *statuses: int, **more: Any) -> dict[str, Any]:
    """A run whose calls of an action fail permanently from an event on."""
    faults = {"api": [{"always": True, **entry}]}
    at_once = event == "start" or entry["action"] in EARLY  # later the calls would be over
    run = api_run(draw, entry["action"], *statuses, gate=draw.gate() if event == "streaming" else None)
    return {
        "runs": (run,),
        "faults": faults if at_once else {},
        "steps": () if at_once else (Step(draw.at(event), "faults", faults=faults),),
        "environment": {"AWS_MAX_ATTEMPTS": "2"},
        "api_down": True,
        "large": 8 * MB,
        "seconds": LONG_SECONDS,
        **more,
    }


@kind("api-error-always", 3)
def _(draw: Draw) -> dict[str, Any]:
    action, code = draw.each(ALL_ACTIONS, TRANSIENT[:2])
    return api_always(draw, {"action": action, "code": code}, draw.one("start", "launched"), 0, 1, 4)


@kind("api-denied", 2)
def _(draw: Draw) -> dict[str, Any]:
    action, event = draw.each((*EFFECTS, "*", "DescribeInstances"), ("start", "launched", "streaming"))
    return api_always(draw, {"action": action, "code": DENIED[0]}, event, 0, 1, 4)


@kind("api-expired", 2)
def _(draw: Draw) -> dict[str, Any]:
    code, event = draw.each(EXPIRED, ("launched", "ssh", "streaming", "tagging", "detaching", "terminating"))
    return api_always(draw, {"action": "*", "code": code}, event, 0, 1, 4)


@kind("api-capacity", 2)
def _(draw: Draw) -> dict[str, Any]:
    entry = {"action": "RunInstances", "code": "InsufficientInstanceCapacity"}
    (times,) = draw.each((1, 3, 0))
    count = {"times": times} if times else {"always": True}
    # A given volume binds the run to its zone. amazon.aws tries for some minutes in each.
    run = api_run(draw, "RunInstances" if times else "AttachVolume", 0, 1)
    return {
        "runs": (run,),
        "faults": {"api": [{**entry, **count}]},
        "environment": {"AWS_MAX_ATTEMPTS": "2"},
        "seconds": LONG_SECONDS,
    }


@kind("api-lost-reply", 3)
def _(draw: Draw) -> dict[str, Any]:
    action, times = draw.each(EFFECTS, (1, 1, 3))
    entry = {"action": action, "after": True, "drop": True, "times": times}
    return {"runs": (api_run(draw, action, 0, 1),), "faults": {"api": [entry]}, "seconds": LONG_SECONDS}


@kind("api-slow")
def _(draw: Draw) -> dict[str, Any]:
    entry = {"action": "*", "always": True, "delay": draw.between(0.2, 0.8)}
    return {"runs": (api_run(draw, "*", 0),), "faults": {"api": [entry]}, "seconds": LONG_SECONDS}


@kind("api-slow-signal", 2)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each(("SIGINT", "SIGTERM"), PHASES)
    delay = draw.between(0.3, 1.2)
    made = signalled(draw, phase, draw.one("wrapper", "everything"), (name,))
    return {**made, "faults": {"api": [{"action": "*", "always": True, "delay": delay}]}, "seconds": LONG_SECONDS}


def api_gone(draw: Draw, event: str, healed_after: float | None) -> dict[str, Any]:
    """The API stops answering, and then the run is broken, so that it has to clean up without the API."""
    gone = {"api": [{"action": "*", "always": True, "drop": True}]}
    target, name = draw.one(("wrapper", "SIGINT"), ("ansible", "SIGKILL"), ("everything", "SIGTERM"))
    steps = [
        Step(draw.at(event), "faults", faults=gone),
        Step(Moment("then", draw.between(0, 0.5)), "signal", target, name),
    ]
    if healed_after is not None:
        steps.append(Step(Moment("then", healed_after), "faults"))
    late = (0, 3) if event in AFTER_THE_STREAM else ()
    return {
        "runs": (draw.run_until(event, statuses=(1, 4, *late)),),
        "steps": tuple(steps),
        "environment": {"AWS_MAX_ATTEMPTS": "2"},
        "api_down": True,
        "large": 8 * MB,
        "seconds": LONG_SECONDS,
    }


@kind("api-unreachable", 2)
def _(draw: Draw) -> dict[str, Any]:
    (event,) = draw.each(("group", "launched", "ssh", "streaming", "tagging", "detaching", "terminating"))
    return api_gone(draw, event, None)


@kind("api-unreachable-healed", 2)
def _(draw: Draw) -> dict[str, Any]:
    (event,) = draw.each(("group", "launched", "ssh", "streaming", "tagging", "detaching", "terminating"))
    return api_gone(draw, event, draw.between(2, 12))


@kind("two-backups")
def _(draw: Draw) -> dict[str, Any]:
    second = RunPlan(volume=draw.one("new", "given"), delay=draw.between(0, 3), gate=draw.gate())
    return {"runs": (RunPlan(volume=draw.one("new", "used"), gate=draw.gate()), second), "large": 6 * MB}


@kind("two-on-one-volume", 2)
def _(draw: Draw) -> dict[str, Any]:
    # Either of them may succeed, and exactly one must.
    first = RunPlan(volume=draw.one("given", "used"), statuses=(0, 1), gate=draw.gate())
    second = RunPlan(volume="same", statuses=(0, 1), delay=draw.one(0, draw.between(0, 1), draw.between(0, 8)))
    return {"runs": (first, second), "winners": 1, "large": 6 * MB}


@kind("two-backups-one-signalled", 2)
def _(draw: Draw) -> dict[str, Any]:
    name, phase = draw.each((*POLITE[:2],), [event for event in PHASES if not EVENTS[event].get("call")])
    made = signalled(draw, phase, draw.one("wrapper", "everything"), (name,))
    other = RunPlan(volume=draw.one("new", "given"), delay=draw.between(0, 2), gate=draw.gate())
    return {**made, "runs": (*made["runs"], other)}


@kind("stdout-closed")
def _(draw: Draw) -> dict[str, Any]:
    stdout, volume = draw.each(("closed", "broken"), ("new", "given"))
    return {"runs": (RunPlan(volume=volume, stdout=stdout, statuses=(0, 1, 3, 4)),)}


@kind("disk-full")
def _(draw: Draw) -> dict[str, Any]:
    (phase,) = draw.each([event for event in PHASES if event != "ending"])
    run = draw.run_until(phase, statuses=(0, 1))
    return {"runs": (run,), "steps": (Step(draw.at(phase), "fill"),), "disk": 64 * MB, "large": 8 * MB}
