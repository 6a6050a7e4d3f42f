"""The private directory of a run, and those of runs that were killed."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from ec2_backup.run import private
from ec2_backup.run.private import private_directory


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    """Temporary files go into the test's own directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_the_directory_is_private_and_is_removed_with_the_run(tmp_path):
    with private_directory() as directory:
        assert directory.parent == tmp_path
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "key").write_text("k")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_but_not_what_a_living_one_has(tmp_path):
    code = "import time\nfrom ec2_backup.run.private import private_directory\n"
    code += "with private_directory() as d:\n  print(d, flush=True)\n  time.sleep(600)"
    dead, living = (subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        for process in (dead, living):
            assert process.stdout is not None
            assert process.stdout.readline()
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert len(list(tmp_path.iterdir())) == 2
        with private_directory():
            assert len(list(tmp_path.iterdir())) == 2
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        for process in (dead, living):
            process.kill()
            process.wait()


def test_a_run_that_begins_at_the_same_moment_is_not_taken_for_a_dead_one(tmp_path, monkeypatch):
    lock = fcntl.flock

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        private.remove_dead(tmp_path)  # as another run does, just before this one has its lock
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with private_directory() as directory:
        assert directory.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_killed_run_stays_while_one_of_its_processes_uses_it(tmp_path):
    directory = tmp_path / "ec2-backup-dead"
    directory.mkdir()
    (directory / "lock").touch()
    survivor = subprocess.Popen(["sleep", "600"], env={"PATH": os.defpath, "TMPDIR": str(directory / "tmp")})
    try:
        with private_directory():
            assert directory.exists()
    finally:
        survivor.kill()
        survivor.wait()
    with private_directory():
        assert not directory.exists()


def test_a_directory_without_a_lock_is_left_alone(tmp_path):
    (tmp_path / "ec2-backup-notes").mkdir()
    with private_directory():
        pass
    assert (tmp_path / "ec2-backup-notes").exists()
