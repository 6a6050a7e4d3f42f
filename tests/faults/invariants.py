"""What must hold after every case: named checks of a snapshot of the account and the machine. They do no I/O."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Callable, Iterable, Iterator

CLEANUP_COMMAND = re.compile(r"ec2-backup cleanup --run-id ([0-9A-Za-z_.-]+)")
FINISHED = (0, 3)
LEFT_BEHIND = 4
# An error message for people must not be the bare name of a Python exception.
BARE_EXCEPTION = re.compile(
    r"^ec2-backup: error: (?:cleaning up: )?[A-Z]\w*(?:Error|Exception|Interrupt): .*$", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One backup, as it ended."""

    status: int | None
    """As a shell gives it; None: it had not ended at the deadline."""
    stdout: str = ""
    stderr: str = ""
    source: str = ""
    given: str = ""
    wrapper: bool = True
    signals: tuple[int, ...] = ()
    """Those that were sent to it, or to all of its process group."""
    statuses: tuple[int, ...] = (0,)
    """The exit statuses that are right beside 128+N for those signals."""
    may_be_orphaned: bool = False
    """Whether it was killed and could neither clean up nor print anything."""
    has_stdout: bool = True

    @property
    def killed(self) -> bool:
        """Whether it was ended by SIGKILL, which no process can catch."""
        return int(signal.SIGKILL) in self.signals

    @property
    def allowed(self) -> set[int]:
        """All exit statuses that are right."""
        return {*self.statuses, *(128 + number for number in self.signals)}

    @property
    def printed(self) -> list[str]:
        """The lines on its stdout."""
        return self.stdout.splitlines()


@dataclasses.dataclass(frozen=True)
class Volume:
    """One volume that is no bystander."""

    state: str
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    attached: bool = False
    source: str = ""
    """The source of the run of this case that wrote it, by its tags; empty if no run of this case did."""
    sha256: str = ""
    """Of as many of its bytes as its tags say are the backup's."""
    differences: tuple[str, ...] = ()
    """How its archive differs from its source, apart from what was changed meanwhile."""

    @property
    def complete(self) -> bool:
        """Whether its tags say that it holds a backup."""
        return self.tags.get("ec2-backup:status") == "complete"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What there is after a case. Bystanders are only in the field ``bystanders``."""

    runs: tuple[Run, ...] = ()
    instances: dict[str, str] = dataclasses.field(default_factory=dict)
    """States by ID."""
    volumes: dict[str, Volume] = dataclasses.field(default_factory=dict)
    given: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    bystanders: dict[str, str] = dataclasses.field(default_factory=dict)
    """What is wrong with each of them; empty if nothing is."""
    processes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """What is left below the directory for temporary files, and key files anywhere."""
    secrets: tuple[str, ...] = ()
    """Outputs and logs that hold a private key."""
    api_down: bool = False
    """Whether EC2 did not answer, or refused every call, when a run ended."""
    winners: int = 0
    """How many of the runs must have succeeded; 0: any number."""

    @property
    def left(self) -> dict[str, str]:
        """What is in the account and should not be: the reason by ID."""
        found = {name: f"instance {name} is {state}" for name, state in self.instances.items() if state != "terminated"}
        for name, volume in self.volumes.items():
            if name in self.given:
                if volume.attached or volume.state != "available":
                    found[name] = f"given volume {name} is {volume.state}"
            elif not (volume.complete and volume.state == "available"):
                status = volume.tags.get("ec2-backup:status", "untagged")
                found[name] = f"volume {name} is {volume.state} and {status}"
        return {**found, **{name: f"security group {name} is there" for name in self.groups}}

    @property
    def admitted(self) -> bool:
        """Whether a run has said that something may be left."""
        return any(run.status == LEFT_BEHIND for run in self.runs)

    @property
    def orphaned(self) -> bool:
        """Whether a run was killed with all that could have cleaned up."""
        return any(run.may_be_orphaned for run in self.runs)


Check = Callable[[Snapshot], Iterable[str]]
ACCOUNT: list[Check] = []
CASE: list[Check] = []


def account(check: Check) -> Check:
    """Register a check of the account and the machine, which holds after a ``cleanup`` too."""
    ACCOUNT.append(check)
    return check


def case(check: Check) -> Check:
    """Register a check of what the runs said and how they ended."""
    CASE.append(check)
    return check


def violations(snapshot: Snapshot, checks: Iterable[Check]) -> list[str]:
    """What is wrong: each line has the check's name and its message."""
    return [f"{check.__name__}: {words}" for check in checks for words in check(snapshot)]


# ---- the account and the machine ------------------------------------------------------------------------------------


@account
def nothing_of_a_run_is_left_in_the_account(now: Snapshot) -> Iterator[str]:
    """No instance that is not terminated, no uncommitted volume, no group, and given volumes are free."""
    yield from now.left.values()


@account
def given_volumes_are_there(now: Snapshot) -> Iterator[str]:
    """A user's volume is never deleted."""
    yield from (f"{name} is gone" for name in now.given if name not in now.volumes)


@account
def bystanders_are_untouched(now: Snapshot) -> Iterator[str]:
    """The instances and volumes of others are as they were."""
    yield from (f"{name}: {wrong}" for name, wrong in now.bystanders.items() if wrong)


@account
def no_process_is_left(now: Snapshot) -> Iterator[str]:
    """No process that the run started is still running."""
    yield from now.processes


@account
def no_file_is_left(now: Snapshot) -> Iterator[str]:
    """No key and no temporary directory is left, except after SIGKILL of all processes that could remove them."""
    if not now.orphaned:
        yield from now.files


@account
def a_complete_volume_holds_what_its_tags_say(now: Snapshot) -> Iterator[str]:
    """The SHA-256 in the tags of a complete volume is that of its data."""
    for name, volume in now.volumes.items():
        if volume.complete and volume.sha256 != volume.tags.get("ec2-backup:sha256"):
            yield f"{name} holds {volume.sha256}, its tags say {volume.tags.get('ec2-backup:sha256')}"


@account
def a_complete_volume_equals_its_source(now: Snapshot) -> Iterator[str]:
    """In content, modes and owners, except for what was changed while it was read."""
    for name, volume in now.volumes.items():
        if volume.complete and volume.differences:
            yield f"{name}: {'; '.join(volume.differences[:3])}"


@account
def no_secret_is_in_an_output(now: Snapshot) -> Iterator[str]:
    """The host key is in no output and no log."""
    yield from now.secrets


# ---- what the runs said ---------------------------------------------------------------------------------------------


@case
def every_run_ends(now: Snapshot) -> Iterator[str]:
    """No run hangs."""
    yield from (f"run {number} hangs" for number, run in enumerate(now.runs) if run.status is None)


@case
def the_exit_status_is_right(now: Snapshot) -> Iterator[str]:
    """The exit status is one that the case allows."""
    for number, run in enumerate(now.runs):
        if run.status is None or run.status in run.allowed:
            continue
        if run.status == LEFT_BEHIND and now.api_down:
            continue
        yield f"run {number} ended with {run.status}, right is {' or '.join(map(str, sorted(run.allowed)))}"


@case
def a_run_that_finished_printed_its_volume(now: Snapshot) -> Iterator[str]:
    """0 and 3 mean a backup: one line on stdout, a volume that is complete, free, and this run's."""
    for number, run in enumerate(now.runs):
        if run.status not in FINISHED:
            continue
        if not run.wrapper or not run.has_stdout:
            ours = [volume for volume in now.volumes.values() if volume.source == run.source and volume.complete]
            if not ours:
                yield f"run {number} ended with {run.status}, and there is no volume that holds its backup"
        elif len(run.printed) != 1:
            yield f"run {number} ended with {run.status} and printed {run.printed}"


@case
def a_printed_volume_is_a_backup(now: Snapshot) -> Iterator[str]:
    """The volume on stdout is a complete backup, whatever the exit status."""
    for number, run in enumerate(now.runs):
        if not run.wrapper:
            continue
        if len(run.printed) > 1:
            yield f"run {number} printed {len(run.printed)} lines"
        for name in run.printed[:1]:
            volume = now.volumes.get(name)
            if volume is None or not volume.complete or volume.state != "available" or volume.source != run.source:
                yield f"run {number} printed {name}, which is {volume or 'not there'}"
            elif run.given and run.given != name:
                yield f"run {number} printed {name}, and was given {run.given}"


@case
def a_backup_is_printed(now: Snapshot) -> Iterator[str]:
    """Each complete volume is named in the output: otherwise it would be left behind, unknown, and cost money."""
    told = "\n".join(run.stdout for run in now.runs)
    mute = [run for run in now.runs if not run.has_stdout or run.status not in FINISHED]
    told += "\n".join(run.stderr for run in mute)
    for name, volume in now.volumes.items():
        run = next((run for run in now.runs if run.source == volume.source), None)
        if run is None or not run.wrapper or run.killed or run.may_be_orphaned or not volume.complete:
            continue
        if name not in told:
            yield f"{name} is complete, the run ended with {run.status} and did not say so"


@case
def a_failed_run_says_why(now: Snapshot) -> Iterator[str]:
    """It prints at least one line of ours, and never a traceback."""
    for number, run in enumerate(now.runs):
        if not run.wrapper:
            continue
        if "Traceback (most recent call last)" in run.stderr:
            yield f"run {number}: a traceback: {run.stderr.splitlines()[-1]}"
        for words in BARE_EXCEPTION.findall(run.stderr):
            yield f"run {number}: the error is a bare Python exception: {words}"
        if run.status in FINISHED or run.status is None or run.killed or run.may_be_orphaned:
            continue
        # A signal that comes before our code runs ends the interpreter as it ends any program.
        if run.stderr and "ec2-backup: " not in run.stderr:
            yield f"run {number} ended with {run.status} and said {run.stderr!r}"
        elif run.status < 128 and "ec2-backup: error: " not in run.stderr:
            yield f"run {number} ended with {run.status} and named no error"


@case
def status_4_means_that_something_is_left(now: Snapshot) -> Iterator[str]:
    """Status 4 means that something is left, or that EC2 could not be asked; the message has the cleanup command."""
    for number, run in enumerate(now.runs):
        if run.status != LEFT_BEHIND or not run.wrapper:
            continue
        if not now.left and not now.api_down:
            yield f"run {number} ended with 4, and nothing is left"
        if not CLEANUP_COMMAND.search(run.stderr):
            yield f"run {number} ended with 4 and named no cleanup command: {run.stderr[-200:]!r}"


@case
def as_many_runs_succeed_as_must(now: Snapshot) -> Iterator[str]:
    """Of two backups onto one volume one succeeds, and the other fails."""
    won = sum(run.status in FINISHED for run in now.runs)
    if now.winners and won != now.winners:
        yield f"{won} runs succeeded, {now.winners} must: {[run.status for run in now.runs]}"


def after_the_case(snapshot: Snapshot) -> list[str]:
    """What is wrong when the runs have ended. What a run has reported as left behind is checked after its cleanup."""
    excused: list[Check] = []
    if snapshot.admitted or snapshot.orphaned:
        excused.append(nothing_of_a_run_is_left_in_the_account)
    return violations(snapshot, [check for check in [*ACCOUNT, *CASE] if check not in excused])


def after_a_cleanup(snapshot: Snapshot, status: int) -> list[str]:
    """What is wrong when ``ec2-backup cleanup`` has ended with this status."""
    told = [f"cleanup_succeeds: ended with {status}"] if status else []
    return [f"after the cleanup: {words}" for words in [*told, *violations(snapshot, ACCOUNT)]]


def after_the_watchdog(snapshot: Snapshot) -> list[str]:
    """What is wrong when only the instance's watchdog was left to clean up: nothing that costs money may be there."""
    return [
        f"the_watchdog_ends_it: {words}" for name, words in snapshot.left.items() if not name.startswith(("sg-", "ec2"))
    ]
