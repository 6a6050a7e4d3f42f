"""The file by which a stream tells how far it is."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils import meter
from ansible_collections.ec2_backup.ebs.plugins.module_utils.meter import Meter


@pytest.mark.parametrize("count", [(0, 0), (5, 3), (None, 7), (2**62, 2**62)])
def test_what_is_written_is_read(tmp_path, count):
    path = tmp_path / "progress"
    path.write_bytes(meter.encode(*count))
    assert meter.read(path) == count


def test_what_is_half_written_or_not_there_is_nothing(tmp_path):
    new, old = meter.encode(19, 19), meter.encode(8, 8)
    assert [meter.decode(new[:cut] + old[cut:]) for cut in range(1, len(new))].count((8, 8)) < len(new)
    for cut in range(len(new)):
        assert meter.decode(new[:cut] + old[cut:]) in (None, (8, 8), (19, 19))
    assert meter.decode(b"") is None
    assert meter.read(tmp_path / "absent") is None


def wait_for(condition):
    """Wait until it is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_counter_is_written_while_the_stream_runs_and_gone_when_it_is_over(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    path.touch()
    monkeypatch.setenv(meter.VARIABLE, str(path))
    running = Meter(lambda: (12, 10))
    running.start()
    wait_for(lambda: meter.read(path) == (12, 10))
    running.stop()
    running.stop()
    assert path.read_bytes() == b""


def test_without_the_variable_nothing_is_done(monkeypatch):
    monkeypatch.delenv(meter.VARIABLE, raising=False)
    idle = Meter(lambda: (1, 1))
    idle.start()
    assert idle.thread is None
    idle.stop()


@pytest.mark.parametrize("what", ["absent", "link", "fifo", "directory"])
def test_only_a_regular_file_that_is_there_is_written_to(tmp_path, what):
    path, target = tmp_path / "progress", tmp_path / "target"
    target.write_text("precious")
    if what == "link":
        path.symlink_to(target)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    refused = Meter(lambda: (1, 1), str(path))
    refused.start()
    assert refused.thread is None
    assert what != "absent" or not path.exists()
    assert target.read_text() == "precious"


def test_the_kernel_tells_what_a_process_has_written():
    program = "import os; os.write(1, bytes(5000)); os.read(0, 1)"
    writer = subprocess.Popen(["python3", "-c", program], stdin=-1, stdout=-1)
    assert writer.stdout is not None
    writer.stdout.read(5000)
    assert meter.written_by(writer.pid) == 5000
    writer.communicate(b"\n")
    assert meter.written_by(writer.pid) is None
