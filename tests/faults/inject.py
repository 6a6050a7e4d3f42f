"""Plays one case, inside its lab: ``lab/run python -m tests.faults.inject SEED KIND VARIANT DIRECTORY PRODUCT``.

Prints one JSON object: how the case went, and which invariants it violated. ``stage`` reads it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import cases, invariants, processes, world
from tests.faults.cases import Case, Moment, Step
from tests.faults.world import Backup, World

LOOK = 0.05  # seconds between two polls for an event
CLEANUP_SECONDS = 240.0
# Seconds in which EC2 and the kernel may still finish something when a run has ended. A run that reports that nothing
# is left has waited for the rest.
GRACE = 3.0
# Seconds beyond the watchdog's idle limit: its polling, the boot before it, the shutdown after it, on a loaded machine.
WATCHDOG_SLACK = 40.0


@dataclasses.dataclass
class Verdict:
    """How a case went."""

    violations: list[str] = dataclasses.field(default_factory=list)
    missed: bool = False
    """Whether the run was over before the fault could be injected."""
    statuses: list[int | None] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = dataclasses.field(default_factory=list)


class Player:
    """One case being played."""

    def __init__(self, case: Case, stage: World) -> None:
        self.case, self.stage = case, stage
        self.verdict = Verdict()

    # -- moments

    def seen(self, moment: Moment, run: Backup) -> bool:
        """Whether a run has come to a moment's event."""
        event = cases.EVENTS[moment.event]
        if "text" in event:
            return event["text"] in run.said()
        if "gate" in event:
            return (run.gate / event["gate"]).exists()
        if "file" in event:
            return any(self.stage.tmp.rglob(event["file"]))
        if "call" in event:
            wanted = event.get("tag")
            return any(
                call["action"] == event["call"] and (wanted is None or wanted in call["parameters"].values())
                for call in self.stage.calls()
            )
        return True

    def wait_for(self, moment: Moment) -> bool:
        """Wait until a moment has come; False if the run ends before."""
        run = self.stage.runs[moment.run]
        deadline = run.started + self.case.seconds
        if not self.poll(lambda: self.seen(moment, run), run, deadline):
            return False
        due = time.monotonic() + moment.delay
        return self.poll(lambda: time.monotonic() >= due, run, deadline) or moment.event == "then"

    def poll(self, condition: Callable[[], bool], run: Backup, deadline: float) -> bool:
        """Poll until the condition holds; False if the run ends before, or hangs."""
        while not condition():
            if run.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(LOOK)  # the interval of a poll: the events are in files and in /proc
        return True

    # -- acts

    def perform(self, step: Step) -> bool:
        """Do what a step says; False if its target is not there."""
        run = self.stage.runs[step.moment.run]
        match step.act:
            case "signal":
                return self.signal(step, run)
            case "faults":
                self.stage.set_faults(step.faults)
            case "source":
                change_source(run.source, step.target)
            case "fill":
                fill(self.stage.tmp / "filler")
        return True

    def signal(self, step: Step, run: Backup) -> bool:
        """Send a step's signal to its target; False if that is not there."""
        number = world.number_of(step.signal)
        if run.process.poll() is not None:
            return False
        if step.target in ("wrapper", "group", "everything"):
            run.signals.append(number)
            run.orphaned |= number == signal.SIGKILL
        match step.target:
            case "wrapper":
                os.kill(run.process.pid, number)
                return True
            case "group":
                os.killpg(run.process.pid, number)
                return True
            case "everything" if number == signal.SIGKILL:
                processes.end_all(lambda: self.stage.watch.target("everything", run.number))
                return True
        targets: list[processes.Process] = []

        def find() -> bool:
            targets[:] = self.stage.watch.target(step.target, run.number)
            return bool(targets)

        if not self.poll(find, run, time.monotonic() + 5):
            return False
        processes.send(targets, number)
        return True

    # -- the case

    def play(self) -> Verdict:
        """Play the case to its end, and check the invariants."""
        began = time.monotonic()
        stage = self.stage
        stage.set_faults(self.case.faults)
        for number, plan in enumerate(self.case.runs):
            if number:
                time.sleep(max(0.0, stage.runs[0].started + plan.delay - time.monotonic()))
            stage.start(plan)
        for number, step in enumerate(self.case.steps):
            if not self.wait_for(step.moment) or not self.perform(step):
                # It is not a miss if the run was over before the second of two signals.
                self.verdict.missed |= step.moment.event != "then" or number == 0
                if step.act != "faults":
                    break
        for run in stage.runs:
            (run.gate / "go").touch()
        ended = world.wait_all(stage.runs, stage.runs[-1].started + self.case.seconds)
        self.verdict.seconds = round(time.monotonic() - began, 1)
        self.verdict.statuses = [run.run().status for run in stage.runs]
        self.verdict.missed |= self.asked_for_nothing()
        if not ended:
            self.verdict.notes += [f"still there: {process}" for process in stage.watch.ours()]
        self.judge()
        return self.verdict

    def asked_for_nothing(self) -> bool:
        """Whether none of the faults that were set for API calls took effect."""
        contents = [self.case.faults, *(step.faults for step in self.case.steps)]
        entries = [entry for faults in contents for entry in faults.get("api", [])]
        wrong = [entry for entry in entries if entry.get("code") or entry.get("drop")]
        return bool(wrong) and not any("fault" in call for call in self.stage.calls())

    def judge(self) -> None:
        """Check the invariants, and again after the watchdog or a ``cleanup`` has removed what the run left."""
        stage, verdict = self.stage, self.verdict
        stage.set_faults({})
        orphaned = any(run.orphaned for run in stage.runs)
        if orphaned:
            self.wait_until_quiet(self.case.idle + WATCHDOG_SLACK)
        else:
            time.sleep(self.longest_delay())  # a call that is still under way may make something
            self.wait_until_quiet(GRACE)
        shot = stage.snapshot()
        verdict.violations += invariants.after_the_case(shot)
        if orphaned:
            verdict.violations += invariants.after_the_watchdog(shot)
        if shot.admitted or (orphaned and shot.left):
            self.clean_up(orphaned)
        stage.end()

    def longest_delay(self) -> float:
        """The longest delay, in seconds, that the lab's faults put on a call."""
        delays = [float(entry.get("delay", 0)) for entry in self.case.faults.get("api", [])]
        return max([0.0, *delays]) + (0.5 if delays else 0.0)

    def wait_until_quiet(self, seconds: float) -> None:
        """Wait until no process, instance or volume of ours is left, but no longer than so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shot = self.stage.look()
            if not shot.processes and not any(not name.startswith("ec2-backup") for name in shot.left):
                return
            time.sleep(0.25)  # as in poll

    def clean_up(self, orphaned: bool) -> None:
        """Run the command of the error message, and check again. Of a killed run the ID is taken from the tags."""
        messages = [run.stderr.read_text(errors="replace") for run in self.stage.runs]
        told = [found[1] for text in messages if (found := invariants.CLEANUP_COMMAND.search(text))]
        for run_id in self.stage.run_ids() if orphaned else told:
            status, output = self.stage.cleanup(run_id, CLEANUP_SECONDS)
            self.verdict.notes.append(f"cleanup of {run_id} ended with {status}: {output[-500:].strip()}")
            self.wait_until_quiet(GRACE)
            self.verdict.violations += invariants.after_a_cleanup(self.stage.snapshot(), status)


def change_source(source: Path, change: str) -> None:
    """Change the source while it is read: its large file is being read, and what sorts after it is not read yet."""
    large = source / "m-large"
    match change:
        case "truncate":
            os.truncate(large, large.stat().st_size - 5_000_000)
        case "grow":
            with large.open("ab") as file:
                file.write(bytes(3_000_000))
        case "remove":
            large.unlink()
        case "remove later":
            (source / "z" / "file-1").unlink()
            (source / "z-last").unlink()
        case "lock":
            os.chown(source / "z" / "file-1", 1234, 1234)
            (source / "z" / "file-1").chmod(0)
        case "remove directory":
            shutil.rmtree(source / "z")
        case "remove all":
            shutil.rmtree(source)


def fill(path: Path) -> None:
    """Take all the space that is left on a file system."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
    except OSError:
        pass


def main(seed: str, kind: str, variant: str, directory: str, product: str) -> None:
    """Play one case and print the verdict."""
    case = cases.make(int(seed), kind, int(variant))
    verdict = Player(case, World(case, Path(directory), Path(product))).play()
    print(json.dumps(dataclasses.asdict(verdict)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
