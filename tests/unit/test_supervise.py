"""Signals, the processes of a run, and what is done after a playbook ended."""

import os
import signal
import subprocess
import sys
import uuid

import pytest

from ec2_backup import playbook, processes, supervise
from ec2_backup.playbook import Observer, Outcome
from ec2_backup.signals import WATCHED, caught


def test_the_first_signal_counts_and_each_is_told():
    told = []
    with caught(lambda number, is_first: told.append((number, is_first))) as seen:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert seen.first == signal.SIGTERM
    assert told == [(signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, False)]


def test_the_handlers_that_were_there_are_put_back_and_an_ignored_signal_stays_ignored():
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
    """A run's ID that nobody else has."""
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


def test_the_processes_of_a_run_are_found_and_ended_even_those_that_will_not(run_id):
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
            outcome = Outcome()

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


SETTLED = {"ec2_backup_settled": {"RUN": True}}
CLEAN = Outcome(rc=0, stats={"ec2_backup_cleanup": {"removed": [], "left": []}})


def test_no_cleanup_follows_a_play_that_said_that_nothing_is_left(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=0, launching=True, stats=SETTLED), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]
    assert run.left == []


def test_no_cleanup_follows_a_play_that_made_nothing(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=2), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]
    assert run.left == []


def test_cleanup_follows_a_play_that_did_not_come_to_its_end_in_the_region_it_worked_in(monkeypatch):
    run, ran = supervised(monkeypatch, backup=Outcome(rc=-9, launching=True, region="eu-west-1"), cleanup=CLEAN)
    assert ran[1] == (
        "cleanup",
        {"ec2_backup_source": "/srv", "ec2_backup_region": "eu-west-1", "ec2_backup_cleanup_run_id": "RUN"},
    )
    assert run.left == []


def test_what_cleanup_could_not_remove_is_left(monkeypatch):
    stats = {"ec2_backup_cleanup": {"removed": [], "left": [{"kind": "instance", "id": "i-1"}]}}
    backup = Outcome(rc=-9, launching=True)
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2, stats=stats, failures=["denied"]))
    assert run.left == ["i-1"]
    assert run.outcome.failures == ["cleaning up: denied"]


@pytest.mark.parametrize(("made", "left"), [({"i-1": None}, ["i-1"]), ({}, None)])
@pytest.mark.parametrize("cleanup", [Outcome(rc=2), OSError(28, "No space left on device")])
def test_a_cleanup_that_breaks_down_leaves_all_that_is_known_to_have_been_made(monkeypatch, made, left, cleanup):
    run, _ = supervised(monkeypatch, backup=Outcome(rc=-9, launching=True, made=dict(made)), cleanup=cleanup)
    assert run.left == left


def test_a_cleanup_that_was_broken_off_is_begun_again(monkeypatch):
    broken_off = Outcome(rc=254)
    ends = {"backup": Outcome(rc=-9, launching=True, made={"i-1": None}), "cleanup": broken_off}
    fakes = FakePlaybooks(**ends)

    class Cleanups(FakePlaybooks):
        def __call__(self, name, *arguments):
            fakes.ends["cleanup"] = CLEAN if [ran for ran, _ in fakes.ran].count("cleanup") else broken_off
            return fakes(name, *arguments)

    monkeypatch.setattr(supervise, "Playbook", Cleanups())
    run = supervise.supervise("backup", {"ec2_backup_source": "/srv"}, "RUN", Observer())
    assert [name for name, _ in fakes.ran] == ["backup", "cleanup", "cleanup"]
    assert run.left == []


def test_the_ids_of_what_was_made_are_remembered_but_not_a_given_volume():
    outcome = Outcome()
    given = {"ansible_facts": {"__ec2_backup_volume": {"volume_id": "vol-1", "given": True}}}
    new = {"ansible_facts": {"__ec2_backup_volume": {"volume_id": "vol-2", "given": False}}}
    for action, result in (
        ("ec2_backup.ebs.security_group", {"group_id": "sg-1"}),
        ("ec2_backup.ebs.instance_launch", {"instance_id": "i-1"}),
        ("ansible.builtin.set_fact", given),
        ("ansible.builtin.set_fact", new),
        ("ec2_backup.ebs.volume_find", {"region": "eu-west-1"}),
    ):
        playbook.record(outcome, {"event": "runner_on_ok", "event_data": {"task_action": action, "res": result}})
    assert list(outcome.made) == ["sg-1", "i-1", "vol-2"]
    assert outcome.region == "eu-west-1"


@pytest.mark.parametrize(
    ("known", "complete", "volume"),
    [
        ({"tagged": True, "detached": True}, ["vol-1"], "vol-1"),
        ({"tagged": True, "given": True}, ["vol-1"], "vol-1"),
        ({"tagged": True}, ["vol-1"], "vol-1"),  # the reply to its detachment was lost
        ({}, ["vol-1"], "vol-1"),  # the reply to its tagging was lost
        ({"tagged": True}, [], None),  # it died with its instance
        ({"given": True}, [], None),
    ],
)
@pytest.mark.parametrize("settled", [SETTLED, {}])
def test_the_account_knows_whether_a_play_that_broke_off_made_a_backup(monkeypatch, settled, known, complete, volume):
    backup = Outcome(
        rc=2, launching=True, committing=True, volume_id="vol-1", source_warnings=["./a: changed"], **known
    )
    backup.stats = dict(settled)
    cleanup = Outcome(rc=0, stats={"ec2_backup_cleanup": {"removed": [], "left": [], "complete": complete}})
    run, _ = supervised(monkeypatch, backup=backup, cleanup=cleanup)
    assert run.result == ({"volume_id": volume, "warnings": ["./a: changed"]} if volume else None)
    assert run.left == []


def test_a_commit_that_was_seen_counts_where_the_account_cannot_be_asked(monkeypatch):
    backup = Outcome(rc=-9, launching=True, committing=True, volume_id="vol-1", tagged=True, detached=True)
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2))
    assert run.result == {"volume_id": "vol-1", "warnings": []}


def test_a_volume_has_left_its_instance_when_it_was_seen_to_be_free():
    outcome = Outcome()
    seen = []
    for action, result in (
        ("ec2_backup.ebs.volume_attachment", {"volume_state": "in-use"}),  # attached
        ("ansible.builtin.include_tasks", {"include": "detach.yml"}),  # the include has its name, and is done first
        ("ec2_backup.ebs.volume_attachment", {"volume_state": "available"}),
    ):
        data = {"task": "Detach the volume", "task_action": action, "res": result}
        playbook.record(outcome, {"event": "runner_on_ok", "event_data": data})
        seen.append(outcome.detached)
    assert seen == [False, False, True]


def test_a_play_that_left_nothing_has_left_nothing_even_if_the_account_is_silent_about_its_backup(monkeypatch):
    backup = Outcome(rc=2, launching=True, committing=True, volume_id="vol-1", tagged=True, stats=SETTLED)
    run, _ = supervised(monkeypatch, backup=backup, cleanup=Outcome(rc=2))
    assert (run.result, run.left) == (None, [])


def test_the_account_is_not_asked_for_a_backup_that_cannot_be_there(monkeypatch):
    _, ran = supervised(monkeypatch, backup=Outcome(rc=2, launching=True, stats=SETTLED), cleanup=CLEAN)
    assert [name for name, _ in ran] == ["backup"]


def test_what_breaks_down_is_told_without_python_in_it():
    assert supervise.in_words(OSError(28, "No space left on device", "/tmp/x")) == "No space left on device: /tmp/x"
