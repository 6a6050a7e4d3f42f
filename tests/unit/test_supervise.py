"""Signals, the processes of a run, and what is done after a playbook ended."""

import os
import signal
import subprocess
import sys
import uuid

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import MOVING
from ec2_backup.run import playbook, processes, supervise
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.playbook import Observer
from ec2_backup.run.signals import WATCHED, caught


def test_the_first_signal_is_kept_and_each_is_reported():
    told = []
    with caught(lambda number, is_first: told.append((number, is_first))) as seen:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert seen.first == signal.SIGTERM
    assert told == [(signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, False)]


def test_former_handlers_are_restored_and_an_ignored_signal_stays_ignored():
    before = {number: signal.getsignal(number) for number in WATCHED}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with caught(lambda number, is_first: None) as seen:
            os.kill(os.getpid(), signal.SIGHUP)
        assert seen.first is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])
    assert {number: signal.getsignal(number) for number in WATCHED} == before


@pytest.fixture
def run_id():
    """A unique run ID."""
    return f"test-{uuid.uuid4().hex}"


def start(run_id, code):
    """A process of that run, in a session of its own, that says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal, sys\n{code}\nprint('ready', flush=True)\nsignal.pause()"],
        env={**os.environ, processes.MARKER: run_id},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_processes_of_a_run_are_found_and_ended_even_those_that_ignore_sigterm(run_id):
    willing = start(run_id, "")
    unwilling = start(run_id, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    bystander = start(run_id + "-other", "")
    try:
        assert sorted(processes.of_run(run_id)) == sorted([willing.pid, unwilling.pid])
        assert processes.of_run(run_id, "no-such-command") == []
        processes.end(run_id, patience=0.3)
        assert (willing.wait(10), unwilling.wait(10)) == (-signal.SIGTERM, -signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        for process in (willing, unwilling, bystander):
            process.kill()
            process.wait()


class FakePlaybooks:
    """Stands in for Playbook: each playbook ends as the test says, and is remembered with its variables."""

    def __init__(self, **ends):
        self.ends, self.ran = ends, []

    def __call__(self, name, variables, run_id):
        fakes = self

        class Fake:
            def __init__(self):
                self.outcome = Outcome()

            def run(self, observer):
                fakes.ran.append((name, dict(variables)))
                end = fakes.ends[name]
                if isinstance(end, Exception):
                    raise end
                return end

            def interrupt(self):
                pass

        fake = Fake()
        if isinstance(self.ends[name], Outcome):
            fake.outcome = self.ends[name]
        return fake


def supervised(monkeypatch, **ends):
    """Supervise a run whose playbooks end like this; return how it ended, and the playbooks that ran."""
    fakes = FakePlaybooks(**ends)
    monkeypatch.setattr(supervise, "Playbook", fakes)
    return supervise.supervise("backup", {"ec2_backup_source": "/srv"}, "RUN", Observer()), fakes.ran


CLEAN = Outcome(rc=0, results={"ec2_backup_cleanup": {"removed": [], "left": []}})
RESULT = {"volume_id": "vol-1", "bytes": 10240, "warnings": ["./a: changed"]}


def test_no_cleanup_follows_a_play_that_said_that_nothing_is_left(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=0), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]
    assert run.left == []


def test_no_cleanup_follows_a_play_that_made_nothing(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=2), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]
    assert run.left == []


def test_cleanup_follows_a_play_that_did_not_come_to_its_end_in_the_region_it_worked_in(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=-9, settled=False, region="eu-west-1"), cleanup=CLEAN)
    assert ran[1] == (
        "cleanup",
        {"ec2_backup_source": "/srv", "ec2_backup_region": "eu-west-1", "ec2_backup_cleanup_run_id": "RUN"},
    )
    assert run.left == []


def test_what_cleanup_could_not_remove_is_left(monkeypatch):
    results = {"ec2_backup_cleanup": {"removed": [], "left": [{"kind": "instance", "id": "i-1"}]}}
    backup = Outcome(rc=-9, settled=False)
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2, results=results, failures=["denied"]))
    assert run.left == ["i-1"]
    assert run.outcome.failures == ["cleaning up: denied"]


@pytest.mark.parametrize(("made", "left"), [({"i-1": None}, ["i-1"]), ({}, None)])
@pytest.mark.parametrize("cleanup", [Outcome(rc=2), OSError(28, "No space left on device")])
def test_after_a_cleanup_that_fails_all_that_was_made_may_be_left(monkeypatch, made, left, cleanup):
    run, _ = supervised(monkeypatch, backup=Outcome(rc=-9, settled=False, made=dict(made)), cleanup=cleanup)
    assert run.left == left


def test_a_cleanup_that_was_interrupted_is_run_again(monkeypatch):
    broken_off = Outcome(rc=254)
    ends = {"backup": Outcome(rc=-9, settled=False, made={"i-1": None}), "cleanup": broken_off}
    fakes = FakePlaybooks(**ends)

    class Cleanups(FakePlaybooks):
        def __call__(self, name, *arguments):
            fakes.ends["cleanup"] = CLEAN if [ran for ran, _ in fakes.ran].count("cleanup") else broken_off
            return fakes(name, *arguments)

    monkeypatch.setattr(supervise, "Playbook", Cleanups())
    run = supervise.supervise("backup", {"ec2_backup_source": "/srv"}, "RUN", Observer())
    assert [name for name, _ in fakes.ran] == ["backup", "cleanup", "cleanup"]
    assert run.left == []


@pytest.mark.parametrize(
    ("known", "complete", "volume"),
    [
        ({"complete": "vol-1", "committed": "vol-1"}, ["vol-1"], "vol-1"),
        ({"complete": "vol-1", "given": True}, ["vol-1"], "vol-1"),
        ({"complete": "vol-1"}, ["vol-1"], "vol-1"),  # the reply to its detachment was lost
        ({}, ["vol-1"], "vol-1"),  # the reply to its tagging was lost
        ({"complete": "vol-1"}, [], None),  # it was deleted with its instance
        ({"given": True}, [], None),
    ],
)
@pytest.mark.parametrize("settled", [True, False])
def test_the_account_shows_whether_an_interrupted_play_made_a_backup(monkeypatch, settled, known, complete, volume):
    backup = Outcome(rc=2, settled=settled, prepared=dict(RESULT), volume_id="vol-1", **known)
    cleanup = Outcome(rc=0, results={"ec2_backup_cleanup": {"removed": [], "left": [], "complete": complete}})
    run, _ = supervised(monkeypatch, backup=backup, cleanup=cleanup)
    assert run.result == (RESULT if volume else None)
    assert run.left == []


def test_if_the_account_cannot_be_asked_a_reported_commit_is_a_backup(monkeypatch):
    backup = Outcome(rc=-9, settled=False, prepared=dict(RESULT), complete="vol-1", committed="vol-1")
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2))
    assert run.result == RESULT


def test_a_settled_play_has_left_nothing_even_if_the_account_cannot_be_asked_for_its_backup(monkeypatch):
    backup = Outcome(rc=2, prepared=dict(RESULT), volume_id="vol-1", complete="vol-1")
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2))
    assert (run.result, run.left) == (None, [])


def test_the_account_is_not_asked_for_a_backup_that_cannot_exist(monkeypatch):
    _, ran = supervised(monkeypatch, backup=Outcome(rc=2), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]


def test_an_exception_is_reported_without_the_name_of_its_class():
    assert supervise.in_words(OSError(28, "No space left on device", "/tmp/x")) == "No space left on device: /tmp/x"


def test_a_play_that_ended_without_an_error_and_without_its_result_is_looked_up_in_the_account(monkeypatch):
    cleanup = Outcome(rc=0, results={"ec2_backup_cleanup": {"removed": [], "left": [], "complete": ["vol-1"]}})
    run, ran = supervised(monkeypatch, backup=Outcome(rc=0, prepared=dict(RESULT)), cleanup=cleanup)
    assert [name for name, _ in ran] == ["backup", "cleanup"]
    assert run.result == RESULT


def test_a_backup_that_the_account_has_is_returned_even_if_nothing_more_is_known_of_it():
    run = supervise.Supervised(Outcome(rc=-9, settled=False), None, [], ("vol-1",))
    assert run.result == {"volume_id": "vol-1", "warnings": []}


@pytest.mark.parametrize(("phase", "playbooks"), [("", ["backup"]), ("launching", ["backup", "cleanup"])])
def test_what_could_not_be_read_of_a_play_that_had_begun_may_have_been_made(monkeypatch, phase, playbooks):
    fakes = FakePlaybooks(backup=OSError(28, "No space left on device"), cleanup=CLEAN)

    def play(name, *arguments):
        fake = fakes(name, *arguments)
        fake.outcome.phase = phase if name == "backup" else ""
        return fake

    monkeypatch.setattr(supervise, "Playbook", play)
    run = supervise.supervise("backup", {}, "RUN", Observer())
    assert [name for name, _ in fakes.ran] == playbooks
    assert run.left == []
    assert run.outcome.failures == ["the playbook could not be run: No space left on device"]


class Interruptible(playbook.Playbook):
    """A playbook that was begun by a process of this test, and whose ssh processes are these."""

    def __init__(self, monkeypatch, ssh, **known):
        super().__init__("backup", {}, "RUN")
        self.outcome = Outcome(**known)
        self._pid = os.getpid()
        self.told: list[tuple[list[int], signal.Signals]] = []
        monkeypatch.setattr(processes, "of_run", lambda run_id, command: list(ssh))
        monkeypatch.setattr(processes, "tell", lambda pids, number: self.told.append((pids, number)))


@pytest.mark.parametrize("phase", MOVING)
def test_a_signal_while_bytes_are_moved_ends_the_connections_of_the_run(monkeypatch, phase):
    play = Interruptible(monkeypatch, [7, 8], phase=phase)
    play.interrupt()
    assert play.told == [([7, 8], signal.SIGTERM)]


@pytest.mark.parametrize(("phase", "ssh"), [("streaming", []), ("launching", [7]), ("cleaning up", [7]), ("", [])])
def test_a_signal_at_any_other_time_interrupts_ansible(monkeypatch, phase, ssh):
    play = Interruptible(monkeypatch, ssh, phase=phase)
    play.interrupt()
    assert play.told == [([os.getpid()], signal.SIGINT)]


@pytest.mark.parametrize("known", [{"prepared": {}}, {"failures": ["too bad"]}])
def test_a_signal_while_the_volume_is_committed_or_after_a_failure_interrupts_nothing(monkeypatch, known):
    play = Interruptible(monkeypatch, [7], phase="streaming", **known)
    play.interrupt()
    assert play.told == []
