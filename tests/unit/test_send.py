# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The whole pipeline, with real processes and a real block device; only the network between them is missing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import write_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import send as sending
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.measure import measure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pump import Pump, tee_call
from tests.unit.devices import (
    MIB,
    children,
    descendants,
    hard_directory,
    is_running,
    large_directory,
    local_ssh,
    loop_device,
    needs_root,
    snapshot,
    wait_until,
    write_program,
)

MODULE = "ansible_collections.ec2_backup.ebs.plugins.modules.stream_send"
SIZE = 48 * MIB
VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def device(tmp_path):
    with loop_device(tmp_path / "image", SIZE) as path:
        yield path


@pytest.fixture
def source(tmp_path):
    return large_directory(tmp_path / "source")


def send(
    tmp_path: Path,
    source: Path,
    device: Path,
    ssh: str | None = None,
    local_filter: str | None = None,
    remote_filter: str | None = None,
) -> dict[str, Any]:
    """Send through a local `ssh`; ``ssh`` is what that does with "$command"."""
    argv = local_ssh(tmp_path, ssh) if ssh else local_ssh(tmp_path)
    command = remote_command(write_script(VOLUME, SIZE, "writing", remote_filter, False, str(device), 1), [])
    return sending.send(argv, command, str(source), VOLUME, 1, local_filter, bool(remote_filter))


def failure(*arguments: Any, **asked: Any) -> str:
    """Return the one line that a failed run ends with; nothing of it may still be running."""
    with pytest.raises(StreamError) as caught:
        send(*arguments, **asked)
    assert "\n" not in str(caught.value)
    assert children() == []
    return str(caught.value)


def read(device: Path, count: int) -> bytes:
    with device.open("rb") as file:
        return file.read(count)


@needs_root
def test_what_is_on_the_volume_is_what_was_measured_sent_and_in_the_directory(tmp_path, device):
    source = hard_directory(tmp_path / "source")
    measured, _log = measure(str(source))
    sent = send(tmp_path, source, device)
    assert sent["bytes"] == sent["stored_bytes"] == measured
    assert sent["sha256"] == hashlib.sha256(read(device, sent["bytes"])).hexdigest()
    assert (sent["source_warnings"], sent["source_warnings_count"]) == ([], 0)
    (tmp_path / "copy").mkdir()
    recover = f"dd if={device} bs=1M status=none | tar -x -p --xattrs --acls --numeric-owner -C {tmp_path}/copy"
    subprocess.run(["bash", "-c", recover], check=True)  # as a person would
    assert snapshot(tmp_path / "copy") == snapshot(source)


@needs_root
def test_filters_change_the_stream_and_the_hash_is_of_what_was_sent(tmp_path, source, device):
    filters = {"local_filter": "gzip -1 | cat", "remote_filter": "gzip -dc"}
    sent = send(tmp_path, source, device, **filters)
    stored = read(device, sent["stored_bytes"])
    assert sent["stored_bytes"] == measure(str(source))[0] != sent["bytes"]
    again = subprocess.run(["gzip", "-1"], input=stored, check=True, stdout=subprocess.PIPE).stdout
    assert (sent["bytes"], sent["sha256"]) == (len(again), hashlib.sha256(again).hexdigest())


@needs_root
def test_an_odd_number_of_bytes_arrives_whole(tmp_path, source, device):
    sent = send(tmp_path, source, device, local_filter="head -c 5000001; cat >/dev/null")
    assert sent["bytes"] == sent["stored_bytes"] == 5000001
    assert sent["sha256"] == hashlib.sha256(read(device, 5000001)).hexdigest()


@needs_root
def test_files_that_change_while_they_are_read_are_listed_and_the_backup_is_complete(tmp_path, source, device):
    (source / "m").write_bytes(os.urandom(8 * MIB))
    # tar waits in the middle of a, since the pipes are full, until the filter goes on to read.
    meddle = f"dd bs=1 count=1 2>/dev/null; truncate -s 10M {source}/a; rm {source}/z; cat"
    sent = send(tmp_path, source, device, local_filter=meddle)
    # Where the clock of the filesystem is coarse, the change of the directory itself may go unseen.
    of_files = sorted(line.split(";")[0] for line in sent["source_warnings"] if line.startswith("./"))
    assert of_files == [
        "./a: File shrank by 6291456 bytes",
        "./z: File removed before we read it",
    ]
    assert sent["source_warnings_count"] == len(sent["source_warnings"])
    listed = subprocess.run(["tar", "-tf", str(device)], check=True, stdout=subprocess.PIPE).stdout
    assert listed == b"./\n./a\n./m\n"


@needs_root
def test_a_file_that_grows_while_it_is_read_is_listed(tmp_path, source, device):
    sent = send(tmp_path, source, device, local_filter=f"dd bs=1 count=1 2>/dev/null; echo more >>{source}/a; cat")
    assert sent["source_warnings"] == ["./a: file changed as we read it"]


@needs_root
@pytest.mark.parametrize("local_filter", [None, "cat"])
@pytest.mark.parametrize(
    ("tar", "words"),
    [
        ("head -c 3000000 /dev/zero; kill -9 $$", "tar was killed by SIGKILL"),
        (
            "head -c 3000000 /dev/zero; echo 'tar: memory exhausted' >&2; exit 2",
            "tar ended with status 2: memory exhausted",
        ),
        ("exit 127", "tar ended with status 127: it gave no reason"),
    ],
)
def test_a_tar_that_dies_fails_the_run(tmp_path, source, device, monkeypatch, tar, words, local_filter):
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "tar", tar)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert failure(tmp_path, source, device, local_filter=local_filter) == words


@needs_root
@pytest.mark.parametrize(
    ("local_filter", "words"),
    [
        ("head -c 1000000; echo no more >&2; exit 3", "the local filter ended with status 3: no more"),
        ("head -c 1000000", "the local filter ended before it had read the whole archive"),
        ("cat; exit 9", "the local filter ended with status 9"),
        ("kill -9 $$", "the local filter was killed by SIGKILL"),
        ("no-such-command-at-all", "the local filter ended with status 127: "),
    ],
)
def test_a_local_filter_that_does_not_do_its_work_fails_the_run(tmp_path, source, device, local_filter, words):
    assert failure(tmp_path, source, device, local_filter=local_filter).startswith(words)


@needs_root
@pytest.mark.parametrize(
    ("remote_filter", "words"),
    [
        ("head -c 100000; exit 3", "the remote filter ended with status 3"),
        ("head -c 100000", "the remote filter ended before it had read the whole stream"),
    ],
)
def test_a_remote_filter_that_does_not_do_its_work_fails_the_run(tmp_path, source, device, remote_filter, words):
    assert words in failure(tmp_path, source, device, remote_filter=remote_filter)


@needs_root
def test_a_volume_that_is_too_small_is_told_with_what_fitted(tmp_path, source, device):
    (source / "b").write_bytes(bytes(SIZE))
    assert (
        failure(tmp_path, source, device)
        == f"volume {VOLUME} is full after {SIZE - MIB} bytes: it is too small for this archive"
    )


@needs_root
def test_a_refusal_comes_before_tar_is_started(tmp_path, source, device, monkeypatch):
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "tar", f"touch {tmp_path}/started")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert "holds the signature ext4: refused" in failure(tmp_path, source, device)
    assert not (tmp_path / "started").exists()


@needs_root
@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        # Dies in the middle, after the instance has reported that it is ready.
        (
            "echo 'ec2-backup:ready /dev/x 1'; head -c 300000 >/dev/null; echo 'disconnect: Broken pipe' >&2; exit 255",
            "the connection to login@instance broke: disconnect: Broken pipe",
        ),
        (
            "echo 'ec2-backup:ready /dev/x 1'; head -c 3000000 >/dev/null; kill -9 $$",
            "the connection to login@instance broke: ssh was killed by SIGKILL",
        ),
        # Takes all, and says nothing, or too little, or its own end belies it.
        (
            "echo 'ec2-backup:ready /dev/x 1'; cat >/dev/null",
            "the session on login@instance ended with status 0, without a result",
        ),
        (
            "echo 'ec2-backup:ready /dev/x 1'; cat >/dev/null; echo 'ec2-backup:done 512 /dev/x'",
            "bytes were sent, but 512 were",
        ),
        ('sh -c "$command"; exit 255', "the connection to login@instance broke: ssh ended with status 255"),
        # Is never there.
        (
            "echo 'ssh: connect to host: Connection refused' >&2; exit 255",
            "no connection to login@instance: ssh: connect to",
        ),
        ("echo 'Host key verification failed.' >&2; exit 255", "the host key of login@instance is not the one"),
        ("echo welcome; echo 'sh: not found' >&2; exit 127", "ended with status 127, without a result: sh: not found"),
    ],
)
def test_an_ssh_that_ends_without_the_instances_report_fails_the_run(tmp_path, source, device, ssh, words):
    assert words in failure(tmp_path, source, device, ssh=ssh)


@needs_root
def test_an_instance_that_never_answers_ends_the_module_at_the_deadline(tmp_path, source, device, monkeypatch):
    monkeypatch.setattr(sending, "SESSION_SECONDS", -0.5)
    assert failure(tmp_path, source, device, ssh="sleep 600") == "no answer from login@instance within 0 s"


@needs_root
def test_greetings_of_the_login_do_not_disturb(tmp_path, source, device):
    sent = send(tmp_path, source, device, ssh="echo Welcome; echo 'have a nice day' >&2; exec sh -c \"$command\"")
    assert sent["stored_bytes"] == sent["bytes"]


@pytest.mark.parametrize("tee", [None, tee_call()])
def test_the_pump_passes_on_and_hashes_every_byte(tee):
    data = os.urandom(3 * MIB + 12345)
    near, source = os.pipe()
    sink, far = os.pipe()
    got: list[bytes] = []

    def produce() -> None:
        for start in range(0, len(data), 70_001):
            os.write(source, data[start : start + 70_001])
        os.close(source)

    def consume() -> None:
        while piece := os.read(sink, 50_000):
            got.append(piece)

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    pump = Pump()
    pump.run(near, far, tee)
    os.close(far)
    for thread in threads:
        thread.join()
    for descriptor in (near, sink):
        os.close(descriptor)
    assert b"".join(got) == data
    assert (pump.bytes, pump.digest.digest()) == (len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize("tee", [None, tee_call()])
def test_the_pump_tells_when_its_reader_goes(tee):
    near, source = os.pipe()
    sink, far = os.pipe()
    os.write(source, b"x")
    os.close(sink)
    pump = Pump()
    pump.run(near, far, tee)
    assert pump.broken
    for descriptor in (near, source, far):
        os.close(descriptor)


def test_where_tee_is_not_allowed_the_pump_copies():
    def tee(_source: int, _sink: int, _count: int) -> int:
        raise OSError(1, "Operation not permitted")

    near, source = os.pipe()
    sink, far = os.pipe()
    os.write(source, b"data")
    os.close(source)
    pump = Pump()
    pump.run(near, far, tee)
    assert (os.read(sink, 10), pump.bytes) == (b"data", 4)
    for descriptor in (near, sink, far):
        os.close(descriptor)


@needs_root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_module(tmp_path, source, device, number):
    ssh = local_ssh(tmp_path)
    asked = {
        "ssh": ssh,
        "path": str(source),
        "volume_id": VOLUME,
        "volume_size": SIZE,
        "run_id": "run",
        "host": "host",
        "device_exact": str(device),
        "local_filter": f"echo >{tmp_path}/begun; dd bs=1 count=1 2>/dev/null; exec sleep 600",
    }
    (tmp_path / "arguments").write_text(json.dumps({"ANSIBLE_MODULE_ARGS": asked}))
    argv = [sys.executable, "-m", MODULE, str(tmp_path / "arguments")]
    module = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until((tmp_path / "begun").exists)
    started = descendants(module.pid)
    assert len(started) >= 3
    module.send_signal(number)
    out, _err = module.communicate(timeout=20)
    wait_until(lambda: not any(is_running(pid) for pid in started))
    if number != signal.SIGKILL:
        result = json.loads(out)
        assert result["failed"]
        assert result["msg"] == f"interrupted by {number.name}: the volume holds no complete backup"


IN_A_FINALIZER = """
import os, signal, time
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Interrupted, interruptible

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # the handler runs here, and Python swallows what it raises

interruptible("too bad")
try:
    Finalized()
    signal.pause()
except Interrupted as error:
    print(error)
"""


def test_a_signal_that_comes_in_a_finalizer_interrupts_too():
    done = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted by SIGTERM: too bad\n", "")
