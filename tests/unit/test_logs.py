"""The logs of failed runs: readable for their user only, and limited in number and size."""

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ec2_backup.run import logs


def name(number, playbook="backup"):
    """The name of a run's log; those of later runs have larger numbers."""
    return f"20261122t18{number // 60:02}{number % 60:02}z-1f2e3d4c-{playbook}"


@pytest.fixture
def output(tmp_path):
    """What Ansible printed."""
    (tmp_path / "stdout").write_text("PLAY RECAP\n")
    return tmp_path / "stdout"


@pytest.fixture
def where(tmp_path):
    """A directory of logs that is there already."""
    (tmp_path / "state" / "ec2-backup" / "log").mkdir(parents=True)
    return tmp_path / "state" / "ec2-backup" / "log"


def kept(tmp_path, output, number):
    return logs.keep(output, name(number), {"XDG_STATE_HOME": str(tmp_path / "state")})


def test_a_log_is_kept_below_the_state_directory_and_readable_for_its_user_only(tmp_path, output):
    log = kept(tmp_path, output, 1)
    assert log == tmp_path / "state/ec2-backup/log/20261122t180001z-1f2e3d4c-backup.log"
    assert log.read_text() == "PLAY RECAP\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_second_log_of_the_same_run_takes_the_place_of_the_first(tmp_path, output):
    kept(tmp_path, output, 1)
    output.write_text("again")
    assert kept(tmp_path, output, 1).read_text() == "again"


def test_the_newest_twenty_are_kept_and_other_files_are_left_alone(tmp_path, output, where):
    for number in range(30):
        (where / f"{name(number)}.log").write_text("x")
        os.utime(where / f"{name(number)}.log", (number, number))
    strangers = ["notes.log", f"{name(0)}.log.gz", f"{name(0)}.txt"]
    for stranger in strangers:
        (where / stranger).write_text("x")
        os.utime(where / stranger, (0, 0))
    (where / f"{name(0, 'directory')}.log").mkdir()
    (where / f"{name(0, 'link')}.log").symlink_to(where / "notes.log")
    kept(tmp_path, output, 40)
    ours = {f"{name(number)}.log" for number in (*range(11, 30), 40)}
    assert set(os.listdir(where)) == {*ours, *strangers, f"{name(0, 'directory')}.log", f"{name(0, 'link')}.log"}


def test_large_logs_are_fewer_but_the_newest_is_kept_however_large_it_is():
    mib = 1 << 20
    assert logs.surplus([("c", 3, 12 * mib), ("b", 2, 8 * mib), ("a", 1, 1)]) == ["a"]
    assert logs.surplus([("b", 2, 500 * mib), ("a", 1, 1)]) == ["a"]
    assert logs.surplus([]) == []


def test_runs_that_fail_at_the_same_time_each_keep_their_log(tmp_path, output, where):
    for number in range(100, 130):
        (where / f"{name(number)}.log").write_text("x")
        os.utime(where / f"{name(number)}.log", (number, number))
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda number: kept(tmp_path, output, number), range(16)))
    assert all(path.read_text() == "PLAY RECAP\n" for path in paths)
    assert len(os.listdir(where)) == logs.KEPT


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state/ec2-backup/log"),
        ({"XDG_STATE_HOME": "state"}, "/home/me/.local/state/ec2-backup/log"),
        ({"XDG_STATE_HOME": ""}, "/home/me/.local/state/ec2-backup/log"),
        ({}, "/home/me/.local/state/ec2-backup/log"),
    ],
)
def test_the_directory_is_that_of_the_xdg_specification(environment, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(logs.directory(environment)) == expected


def test_a_user_without_a_home_gets_no_log_and_no_directory_called_tilde(output, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as Python does for an unknown user
    monkeypatch.chdir(tmp_path)
    assert logs.keep(output, name(1), {}) is None
    assert os.listdir(tmp_path) == ["stdout"]


def test_a_directory_that_cannot_be_made_means_no_log_and_no_error(output, tmp_path):
    assert logs.keep(output, name(1), {"XDG_STATE_HOME": str(output)}) is None


def test_no_half_of_a_log_is_left_where_it_does_not_fit(output, where, tmp_path, monkeypatch):
    def full(source, target):
        target.write(b"PLAY")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert kept(tmp_path, output, 1) is None
    assert os.listdir(where) == []
