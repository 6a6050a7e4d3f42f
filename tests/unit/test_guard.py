"""The guard ends a run's processes and removes its files when the wrapper is killed."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ec2_backup.run import processes
from tests.unit.devices import descendants, is_running, wait_until

# A wrapper that starts a process which does not end by itself, and prints its ID.
WRAPPER = """
import os, subprocess, sys
from pathlib import Path
from ec2_backup.run import guard, processes

run_id, private = sys.argv[1], Path(sys.argv[2])
private.mkdir()
code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
with guard.guarded(run_id, private):
    marked = {**os.environ, processes.MARKER: run_id}
    worker = subprocess.Popen([sys.executable, "-c", code], env=marked, stdout=subprocess.PIPE, start_new_session=True)
    worker.stdout.readline()
    print(worker.pid, flush=True)
    sys.stdin.readline()
print("over", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def wrapper(tmp_path):
    run_id = f"test-{uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-c", WRAPPER, run_id, tmp_path / "private"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        processes.end(run_id)


@pytest.mark.parametrize("group", [False, True])
def test_what_a_killed_wrapper_leaves_is_ended_and_removed(wrapper, tmp_path, group):
    worker = int(wrapper.stdout.readline())
    if group:
        os.killpg(wrapper.pid, signal.SIGKILL)
    else:
        wrapper.kill()
    wait_until(lambda: not is_running(worker))
    wait_until(lambda: not (tmp_path / "private").exists())


def test_a_wrapper_that_ends_its_run_itself_has_no_guard_any_more(wrapper, tmp_path):
    worker = int(wrapper.stdout.readline())
    (guard,) = descendants(wrapper.pid) - {worker}
    wrapper.stdin.write("\n")
    wrapper.stdin.flush()
    assert wrapper.stdout.readline() == "over\n"
    assert not is_running(guard)
    assert is_running(worker)
    assert (tmp_path / "private").exists()


def test_the_guard_is_not_one_of_the_runs_processes_and_has_none_of_the_users_files_open(wrapper):
    worker = int(wrapper.stdout.readline())
    (guard,) = descendants(wrapper.pid) - {worker}
    assert processes.MARKER.encode() not in Path(f"/proc/{guard}/environ").read_bytes()
    assert os.readlink(f"/proc/{guard}/cwd") == "/"
    assert {os.readlink(f"/proc/{guard}/fd/{number}") for number in (1, 2)} == {"/dev/null"}
    assert os.getsid(guard) == guard
