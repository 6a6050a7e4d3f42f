"""The instance's watchdog: an instance that no process can terminate any more ends by itself, one in use does not."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Lab
from tests.integration.endless import Run
from tests.lab.harness import FAST, wait_for

# Seconds. On a busy machine the shortest may be over before the stream begins; then the next one is tried.
TIMES = (8, 16, 32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"


def streaming(make_lab: Callable[..., Lab], data: Path, setting: str, given: bool = False) -> tuple[Run, int]:
    """Start a backup with the shortest time for ``setting`` that lets it come to its stream; return it and the time."""
    for seconds in TIMES:
        run = Run(make_lab(**FAST), data, f"{setting}={seconds}", given=given)
        if run.reaches_stream():
            return run, seconds
        run.signal(9)
    pytest.fail(f"no backup came to its stream within {seconds} s")


@pytest.mark.heavy
@pytest.mark.parametrize("given", [False, True])
def test_when_everything_local_is_killed_in_mid_stream_the_instance_ends_by_itself(make_lab, data, given):
    run, idle = streaming(make_lab, data, "ec2_backup_idle_timeout", given)
    assert run.signal(9) > 6  # the shell, the wrapper, Ansible, the module, tar, the filter, ssh
    run.wait_for_power_off(f"no SSH session was in use for {idle} s", idle + 20)
    assert run.lab.calls("TerminateInstances") == []


@pytest.mark.heavy
def test_when_ssh_is_frozen_the_instance_ends_by_itself(make_lab, data):
    run, idle = streaming(make_lab, data, "ec2_backup_idle_timeout")
    try:
        assert run.signal(19, "ssh") == 1
        run.wait_for_power_off(f"no SSH session was in use for {idle} s", idle + 20)
    finally:
        run.signal(9)


def test_an_instance_that_nobody_can_log_in_to_ends_by_itself(make_lab, data):
    run = Run(make_lab(**{**FAST, "EC2_LAB_BOOT": "never"}), data, "ec2_backup_idle_timeout=3", given=True)
    try:
        run.wait_for_power_off("no SSH session was in use for 3 s", 40)
    finally:
        run.signal(9)


@pytest.mark.heavy
def test_the_lifetime_ends_an_instance_in_mid_stream(make_lab, data):
    run, lifetime = streaming(make_lab, data, "ec2_backup_max_lifetime", given=True)
    run.wait_for_power_off(f"the lifetime of {lifetime} s is over", lifetime + 20)
    wait_for(lambda: run.read("status"), "the backup to fail", 30)
    assert (run.read("status"), run.read("stdout")) == ("1\n", "")
    assert run.read("stderr").startswith("ec2-backup: error: ")
    run.lab.assert_nothing_left(*run.given)


@pytest.mark.heavy
def test_a_slow_stream_and_one_that_stalls_are_left_alone(make_lab, data, tmp_path):
    """A few bytes a second for longer than the idle time, then none at all: ssh's keepalives are enough."""
    for idle in TIMES:
        lab = make_lab(**FAST)
        slow = f"for n in $(seq {idle + 2}); do dd bs=100 count=1; sleep 1; done 2>/dev/null; cat"
        argv = ("-e", f"ec2_backup_idle_timeout={idle}", "-l", f"{slow}; sleep {idle + 2}", data)
        done = lab.backup(*argv, EC2_BACKUP_FLAGS_SSH="-o ServerAliveInterval=2")
        if done.rc == 0:
            break
    assert (done.rc, done.stderr) == (0, "")
    lab.assert_nothing_left(done.volume_id)
    (console,) = lab.state.glob("instances/*/console.log")
    assert f"ec2-backup: watchdog: armed: idle limit {idle} s, lifetime 86400 s\n" in console.read_text()
    (tmp_path / "copy").mkdir()
    with lab.image(done.volume_id).open("rb") as image:
        subprocess.run(["tar", "-xC", tmp_path / "copy"], stdin=image, check=True)
    assert (tmp_path / "copy" / "file").read_text() == "x"


def test_times_that_make_no_sense_are_refused_before_anything_is_launched(lab, data):
    done = lab.backup("-e", "ec2_backup_max_lifetime=0", data)
    assert (done.rc, done.stdout) == (1, "")
    assert "ec2_backup_max_lifetime is 0: set" in done.stderr
    assert lab.calls("RunInstances") == []
