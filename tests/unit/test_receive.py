# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading a volume, with real processes and a real block device; only the network between them is missing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device import read as device_read
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import BLOCK_BYTES
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive, manifest_block, receive, session
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pump import Pump
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import Session
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import extract_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack_log import ExtractLog, extract_failure
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
)

pytestmark = needs_root

MODULE = "ansible_collections.ec2_backup.ebs.plugins.modules.stream_receive"
SIZE = 64 * MIB
BLOCK = BLOCK_BYTES
VOLUME = "vol-0123456789abcdef0"
MARK = "EC2_BACKUP_TEST_OF"
GREETING = "echo Welcome; echo 'have a nice day' >&2; printf '\\303\\n\\n'; exec sh -c \"$command\""


def marked(mark: str) -> list[int]:
    """Return the processes that were started with MARK in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_running(tmp_path, monkeypatch):
    """Whatever a test does: of its processes, none is left, not even as a zombie."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    assert children() == []
    wait_until(lambda: marked(str(tmp_path)) == [], 5)


@pytest.fixture
def device(tmp_path):
    with loop_device(tmp_path / "image", SIZE) as path:
        yield path


@pytest.fixture
def source(tmp_path):
    return large_directory(tmp_path / "source")


def pack(directory: Path) -> bytes:
    """The archive of a directory as the backup makes it."""
    argv = archive.tar_arguments(str(directory), "-")
    return subprocess.run(argv, check=True, capture_output=True, env=clean_environment(os.environ) | {MARK: ""}).stdout


def through(command: str, data: bytes) -> bytes:
    return subprocess.run(["sh", "-c", command], check=True, input=data, stdout=subprocess.PIPE).stdout


def put(device: Path, data: bytes, offset: int = 0) -> bytes:
    with device.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return data


def ssh_of(tmp_path: Path, ssh: str | None) -> list[str]:
    return local_ssh(tmp_path, ssh) if ssh else local_ssh(tmp_path)


def failure(caught: pytest.ExceptionInfo[StreamError]) -> str:
    """Return the one line that a failed run ends with; nothing of it may still be running."""
    assert "\n" not in str(caught.value)
    assert children() == []
    return str(caught.value)


def run(asked: str, tmp_path: Path, device: Path, ssh: str) -> object:
    """Do one of the three things that a session is for."""
    if asked == "peek":
        return peek(tmp_path, device, ssh)
    return remote_sum(tmp_path, device, 0, ssh) if asked == "sum" else get(tmp_path, device, 0, ssh)


# ---- the manifest ---------------------------------------------------------------------------------------------------


def peek(tmp_path: Path, device: Path, ssh: str | None = None, size: int = SIZE) -> tuple[int, bytes, bytes]:
    command = remote_command(device_read.peek_script(VOLUME, size, str(device), 0), [])
    return manifest_block.peek(ssh_of(tmp_path, ssh), command, VOLUME, 0)


@pytest.mark.parametrize("ssh", [None, GREETING])
def test_the_manifests_block_comes_whole(tmp_path, device, ssh):
    first = put(device, os.urandom(BLOCK))
    last = put(device, b"\n\0\r" + os.urandom(BLOCK - 3), SIZE - BLOCK)
    assert peek(tmp_path, device, ssh) == (SIZE, last, first)


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        ("echo 'ssh: connect to host: Connection refused' >&2; exit 255", "no connection to login@instance: ssh: conn"),
        ("echo 'Host key verification failed.' >&2; exit 255", "the host key of login@instance is not the one"),
        ("echo welcome; echo 'sh: not found' >&2; exit 127", "ended with status 127, without a result: sh: not found"),
        ("exit 0", "the session on login@instance ended with status 0, without a result"),
        ("printf ec2-backup:blo", "ended with status 0, without a result"),
        ("echo 'ec2-backup:ready /dev/x 1'; exit 255", "the connection to login@instance broke"),
        ("echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:blocks 65536'; exit 255", "instance broke: ssh ended"),
        (
            "echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:blocks 65536'; head -c 131071 /dev/zero",
            "ended with status 0, without a result",
        ),
        (
            "echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:blocks 65536'; head -c 70000 /dev/zero; kill -9 $$",
            "the connection to login@instance broke: ssh was killed by SIGKILL",
        ),
        ('sh -c "$command"; exit 255', "the connection to login@instance broke: ssh ended with status 255"),
        ("yes", "the session on login@instance sends something else than what it was asked for"),
        ("exec cat /dev/zero", "the session on login@instance sends something else than what it was asked for"),
    ],
)
@pytest.mark.parametrize("asked", ["peek", "sum"])
def test_an_ssh_that_ends_without_the_instances_report_fails(tmp_path, device, ssh, words, asked):
    with pytest.raises(StreamError) as caught:
        run(asked, tmp_path, device, ssh)
    assert words in failure(caught)
    assert not caught.value.found_bad


def test_what_the_script_on_the_instance_refuses_is_reported(tmp_path, device):
    with pytest.raises(StreamError) as caught:
        peek(tmp_path, device, size=SIZE * 2)
    assert not caught.value.found_bad
    assert failure(caught) == (f"volume {VOLUME}: {device} has {SIZE} bytes, the volume has {SIZE * 2}: refused")


@pytest.mark.parametrize("ssh", ["exec sleep 600", "echo Welcome; sleep 600", "printf Welcome; exec sleep 600"])
@pytest.mark.parametrize("asked", ["peek", "sum", "stream"])
def test_an_instance_that_never_answers_ends_the_module_at_the_deadline(tmp_path, device, monkeypatch, ssh, asked):
    monkeypatch.setattr(session, "SESSION_SECONDS", 0.3)
    with pytest.raises(StreamError) as caught:
        run(asked, tmp_path, device, ssh)
    assert failure(caught) == "no answer from login@instance within 0 s"


# ---- the sum --------------------------------------------------------------------------------------------------------


def remote_sum(
    tmp_path: Path, device: Path, length: int, ssh: str | None = None, remote_filter: str | None = None
) -> tuple[str, int | None, str | None]:
    command = remote_command(device_read.sum_script(VOLUME, SIZE, length, remote_filter, True, str(device), 0), [])
    return receive.remote_sum(ssh_of(tmp_path, ssh), command, VOLUME, 0)


@pytest.mark.parametrize("ssh", [None, GREETING])
def test_the_instance_makes_the_sum(tmp_path, device, source, ssh):
    data = put(device, pack(source))
    assert remote_sum(tmp_path, device, len(data), ssh) == (hashlib.sha256(data).hexdigest(), 3, None)


def test_a_damaged_archive_comes_with_its_sum(tmp_path, device, source):
    data = bytearray(pack(source))
    data[2048:2148] = os.urandom(100)
    put(device, bytes(data))
    found, _, damage = remote_sum(tmp_path, device, len(data))
    assert found == hashlib.sha256(data).hexdigest()
    assert str(damage).startswith("its archive cannot be read to the end: tar: ")


@pytest.mark.parametrize(
    ("remote_filter", "found_bad"),
    [("gzip -dc", True), ("no-such-program", False), ("cat >/dev/null; kill -9 $$", False)],
)
def test_a_filter_that_fails_on_the_instance_is_told(tmp_path, device, remote_filter, found_bad):
    with pytest.raises(StreamError) as caught:
        remote_sum(tmp_path, device, 1000, remote_filter=remote_filter)
    assert failure(caught).startswith(f"reading volume {VOLUME} failed after 0 bytes: the filter that undoes the ")
    assert caught.value.found_bad == found_bad, "only what ran to its end can tell that data is bad"


@pytest.mark.parametrize(
    "ssh",
    [
        "echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:sum 00 5'; exit 255",
        "echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:sum  5'; echo 'ec2-backup:done 1 /dev/x'",
        "echo 'ec2-backup:ready /dev/x 1'; echo 'ec2-backup:sum 00 5'",
    ],
)
def test_a_sum_without_an_end_does_not_count(tmp_path, device, ssh):
    with pytest.raises(StreamError) as caught:
        remote_sum(tmp_path, device, 1000, ssh)
    assert "login@instance" in failure(caught)


# ---- the stream -----------------------------------------------------------------------------------------------------


class Got:
    """What came of a stream."""

    def __init__(self, received: receive.Received, log: ExtractLog, pump: Pump) -> None:
        self.received, self.log, self.pump = received, log, pump
        self.bytes, self.sha256 = received.bytes, received.sha256
        self.remote, self.filter, self.tar = received.remote_trouble, received.filter_trouble, received.tar_status


def get(
    tmp_path: Path,
    device: Path,
    length: int | None,
    ssh: str | None = None,
    remote_inverse: str | None = None,
    local_inverse: str | None = None,
    argv: list[str] | None = None,
) -> Got:
    """Receive through a local `ssh`, and unpack into the directory "target"."""
    (tmp_path / "target").mkdir(exist_ok=True)
    script = device_read.send_script(VOLUME, SIZE, SIZE if length is None else length, remote_inverse, str(device), 0)
    session = Session(ssh_of(tmp_path, ssh), remote_command(script, []), VOLUME, 0)
    log, pump = ExtractLog(), Pump()
    argv = argv or extract_arguments()
    tar = receive.Tar(argv, str(tmp_path / "target"), log.feed, subprocess.DEVNULL, local_inverse)
    return Got(receive.receive(session, tar, length, pump), log, pump)


@pytest.mark.parametrize("ssh", [None, GREETING])
def test_what_is_restored_is_what_was_saved(tmp_path, device, ssh):
    source = hard_directory(tmp_path / "source")
    data = put(device, pack(source))
    put(device, os.urandom(MIB), len(data))
    got = get(tmp_path, device, len(data), ssh)
    assert (got.bytes, got.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (got.remote, got.filter, got.tar, got.log.other) == (None, None, 0, [])
    assert snapshot(tmp_path / "target") == snapshot(source)


def test_filters_are_undone_and_the_hash_is_of_what_was_sent(tmp_path, device, source):
    sent = through("gzip -1", pack(source))
    stored = put(device, through("gzip -1", sent))
    got = get(tmp_path, device, len(stored), remote_inverse="gzip -dc", local_inverse="gzip -dc | cat")
    assert (got.bytes, got.sha256) == (len(sent), hashlib.sha256(sent).hexdigest())
    assert (got.remote, got.filter, got.tar) == (None, None, 0)
    assert snapshot(tmp_path / "target") == snapshot(source)


READY = "echo 'ec2-backup:ready /dev/x 1' >&2; echo ec2-backup:stream; "


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        (READY + "head -c 3000000 {device}; exit 255", "the connection to login@instance broke: ssh ended with status"),
        (READY + "head -c 3000000 {device}; kill -9 $$", "the connection to login@instance broke: ssh was killed by"),
        (READY + "head -c 3000000 {device}", "ended with status 0, without a result"),
        (READY + "cat {device}", "ended with status 0, without a result"),
        (READY + "head -c 5 {device}; echo 'ec2-backup:done 5 /dev/x' >&2", "ended with status 0, without a result"),
        (READY + "echo 'ec2-backup:failed dd 0 dd ended with status 1: bad' >&2; exit 78", "0 bytes: dd ended with s"),
        ('sh -c "$command"; exit 255', "the connection to login@instance broke: ssh ended with status 255"),
        (READY + "exec 1>&-; sleep 0.3; exit 3", "ended with status 3, without a result"),
    ],
)
def test_a_stream_that_is_not_all_of_it_is_told(tmp_path, device, source, ssh, words):
    data = put(device, pack(source))
    got = get(tmp_path, device, len(data), ssh.replace("{device}", str(device)))
    assert words in str(got.remote)


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        ("echo 'ssh: connect to host: Connection refused' >&2; exit 255", "no connection to login@instance: ssh: conn"),
        ("echo 'Host key verification failed.' >&2; exit 255", "the host key of login@instance is not the one"),
        ("echo 'ec2-backup:refused size /dev/x has 5 bytes' >&2; exit 77", f"{VOLUME}: /dev/x has 5 bytes: refused"),
        ("echo 'ec2-backup:ready /dev/x 1' >&2; exit 255", "the connection to login@instance broke"),
        ("exit 0", "the session on login@instance ended with status 0, without a result"),
    ],
)
def test_a_stream_that_does_not_begin_is_told(tmp_path, device, ssh, words):
    with pytest.raises(StreamError) as caught:
        get(tmp_path, device, MIB, ssh)
    assert words in failure(caught)
    assert list((tmp_path / "target").iterdir()) == []


def test_a_remote_filter_that_fails_is_told(tmp_path, device, source):
    data = put(device, pack(source))
    got = get(tmp_path, device, len(data), remote_inverse="head -c 3000000; exit 4")
    reading = f"reading volume {VOLUME} failed after 0 bytes"
    assert got.remote == f"{reading}: the filter that undoes the remote one ended with status 4"


@pytest.mark.parametrize("tar", ["exit 2", "head -c 3000000 >/dev/null; exit 2", "exec 0<&-; sleep 0.3; exit 2"])
@pytest.mark.parametrize("local_inverse", [None, "cat"])
def test_a_tar_that_gives_up_does_not_keep_the_stream_from_being_hashed(tmp_path, device, source, tar, local_inverse):
    data = put(device, pack(source))
    got = get(tmp_path, device, len(data), local_inverse=local_inverse, argv=["sh", "-c", tar])
    assert (got.bytes, got.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    # Who lost its reader is not to blame for that.
    assert (got.remote, got.filter, got.tar) == (None, None, 2)


@pytest.mark.parametrize("local_inverse", [None, "cat", "gzip -dc"])
def test_a_tar_that_is_killed_is_told_as_such(tmp_path, device, source, local_inverse):
    data = put(device, through("gzip -1", pack(source)) if local_inverse == "gzip -dc" else pack(source))
    argv = ["sh", "-c", "head -c 3000000 >/dev/null; kill -9 $$"]
    got = get(tmp_path, device, len(data), local_inverse=local_inverse, argv=argv)
    assert (got.remote, got.filter, got.tar) == (None, None, -9)
    assert extract_failure(got.tar, got.log) == "tar was killed by SIGKILL"


@pytest.mark.parametrize(
    ("local_inverse", "words"),
    [
        ("head -c 1000000; echo no more >&2; exit 3", "the filter that undoes the local one ended with status 3: no m"),
        ("cat; exit 9", "the filter that undoes the local one ended with status 9"),
        ("kill -9 $$", "the filter that undoes the local one was killed by SIGKILL"),
        ("no-such-command-at-all", "the filter that undoes the local one ended with status 127: "),
        ("gzip -dc", "the filter that undoes the local one ended with status 1: gzip: "),
    ],
)
def test_a_local_filter_that_does_not_do_its_work_is_told(tmp_path, device, source, local_inverse, words):
    data = put(device, pack(source))
    got = get(tmp_path, device, len(data), local_inverse=local_inverse)
    assert str(got.filter).startswith(words)
    assert (got.bytes, got.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_local_filter_that_ends_early_leaves_a_damaged_archive(tmp_path, device, source):
    data = put(device, pack(source))
    got = get(tmp_path, device, len(data), local_inverse="head -c 1000000")
    assert (got.filter, got.sha256) == (None, hashlib.sha256(data).hexdigest())
    assert str(extract_failure(got.tar, got.log)).startswith("the archive is damaged: Unexpected EOF")


# ---- the module -----------------------------------------------------------------------------------------------------


def arguments(tmp_path: Path, device: Path, ssh: str | None = None, **asked: Any) -> list[str]:
    """Return the argv of the module."""
    known = {"ssh": ssh_of(tmp_path, ssh), "volume_id": VOLUME, "volume_size": SIZE, "device_exact": str(device)}
    known["timeout"] = 0
    (tmp_path / "arguments").write_text(json.dumps({"ANSIBLE_MODULE_ARGS": known | asked}))
    return [sys.executable, "-m", MODULE, str(tmp_path / "arguments")]


def module(tmp_path: Path, device: Path, data: bytes, **asked: Any) -> dict[str, Any]:
    """Run the module on a volume whose manifest tells of ``data``; return what it says."""
    told: dict[str, Any] = {"length": len(data), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    argv = arguments(tmp_path, device, **(told | asked))
    done = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    result: dict[str, Any] = json.loads(done.stdout or done.stderr)
    if result.get("failed"):
        assert "\n" not in result["msg"]
    return result


def flip(device: Path, offset: int) -> None:
    with device.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def test_the_module_restores_a_directory(tmp_path, device):
    source = hard_directory(tmp_path / "source")
    data = put(device, pack(source))
    told = module(tmp_path, device, data, path=str(tmp_path / "new"))
    assert (told["changed"], told["path"]) == (True, str(tmp_path / "new"))
    assert (told["bytes"], told["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (told["denied"], told["denied_count"]) == ("", 0)
    assert snapshot(tmp_path / "new") == snapshot(source)
    assert told["members"] == len(snapshot(source))


def test_the_module_lists_every_member_and_writes_nothing_else(tmp_path, device):
    source = hard_directory(tmp_path / "source")
    data = put(device, pack(source))
    listing = tmp_path / "listing"
    told = module(tmp_path, device, data, action="list", listing=str(listing))
    lines = listing.read_text().splitlines()
    assert (told["changed"], told["members"]) == (False, len(lines))
    assert len(lines) == len(snapshot(source))
    assert {"./", "./schön", "./new\\nline", "./no files/"} <= set(lines)
    assert listing.stat().st_mode & 0o777 == 0o600
    again = module(tmp_path, device, data, action="list", listing=str(listing))
    assert "File exists" in again["msg"]


def test_the_module_counts(tmp_path, device, source):
    data = put(device, pack(source))
    told = module(tmp_path, device, data, action="count")
    assert (told["changed"], told["members"]) == (False, 3)


def test_the_module_compares(tmp_path, device, source):
    (source / "m: Contents differ").write_text("x")
    data = put(device, pack(source))
    told = module(tmp_path, device, data, action="compare", path=str(source))
    assert (told["changed"], told["differences"], told["differences_count"], told["members"]) == (False, [], 0, 4)
    os.utime(source / "a", ns=(0, 0))
    (source / "z").unlink()
    (source / "new").touch()
    told = module(tmp_path, device, data, action="compare", path=str(source))
    assert sorted(told["differences"]) == [
        "./a: Mod time differs",
        "./new: is not in the backup",
        "./z: is not there any more",
    ]
    assert told["differences_count"] == 3


def test_the_module_restores_what_was_asked_for(tmp_path, device, source):
    (source / "directory/below").mkdir(parents=True)
    (source / "directory/below/file").write_text("x")
    data = put(device, pack(source))
    told = module(tmp_path, device, data, path=str(tmp_path / "new"), members=["directory", "/z"])
    assert told["members"] == 4
    assert sorted(path.name for path in (tmp_path / "new").rglob("*")) == ["below", "directory", "file", "z"]
    told = module(tmp_path, device, data, action="list", listing=str(tmp_path / "listing"), members=["directory"])
    assert (tmp_path / "listing").read_text().splitlines() == [
        "./directory/",
        "./directory/below/",
        "./directory/below/file",
    ]
    told = module(tmp_path, device, data, path=str(tmp_path / "other"), members=["nowhere"])
    assert "not in the backup: nowhere" in told["msg"]


def test_the_module_restores_over_files_only_with_force(tmp_path, device, source):
    data = put(device, pack(source))
    (tmp_path / "new").mkdir()
    (tmp_path / "new/own").write_text("own")
    (tmp_path / "new/z").write_text("to be replaced")
    told = module(tmp_path, device, data, path=str(tmp_path / "new"))
    assert "is not empty (it holds own and z): use --force" in told["msg"]
    assert (tmp_path / "new/z").read_text() == "to be replaced"
    assert "msg" not in module(tmp_path, device, data, path=str(tmp_path / "new"), force=True)
    assert ((tmp_path / "new/z").read_text(), (tmp_path / "new/own").read_text()) == ("last", "own")


@pytest.mark.parametrize("offset", [700, 5 * MIB, -1])
@pytest.mark.parametrize("action", ["extract", "list", "count", "compare"])
def test_one_flipped_byte_fails_and_tells_which_files_are_suspect(tmp_path, device, source, offset, action):
    data = put(device, pack(source))
    flip(device, offset % len(data))
    paths = {"extract": tmp_path / "new", "compare": source}
    asked: dict[str, Any] = {"path": str(paths[action])} if action in paths else {}
    told = module(tmp_path, device, data, action=action, listing=str(tmp_path / "listing"), **asked)
    assert told["msg"].startswith(f"volume {VOLUME}: the data on it is not what was backed up: its SHA-256 is ")
    assert ("suspect" in told["msg"]) == (action == "extract")
    assert told["found_bad"]
    if action == "extract":
        assert told["msg"].endswith(f"; what was restored to {tmp_path}/new is suspect")


def test_a_recorded_length_that_is_not_what_came_is_told(tmp_path, device, source):
    data = put(device, pack(source))
    told = module(tmp_path, device, data, path=str(tmp_path / "new"), bytes=len(data) + 1)
    assert f"{len(data)} bytes came, {len(data) + 1} were recorded; what was restored to {tmp_path}/new" in told["msg"]


def test_an_archive_that_is_no_archive_fails_though_its_sum_is_right(tmp_path, device):
    data = put(device, os.urandom(MIB))
    told = module(tmp_path, device, data, path=str(tmp_path / "new"))
    assert f"volume {VOLUME}: the archive is damaged: This does not look like a tar archive; what was" in told["msg"]
    assert told["found_bad"]


def test_a_filesystem_that_is_full_is_told(tmp_path, device, source):
    data = put(device, pack(source))
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path / "small"], check=True)
    try:
        told = module(tmp_path, device, data, path=str(tmp_path / "small"))
        assert "./a: Cannot write: No space left on device" in told["msg"] or "Wrote only" in told["msg"]
        assert told["msg"].endswith(f"; what was restored to {tmp_path}/small is suspect")
        assert not told["found_bad"]
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def test_a_listing_that_cannot_be_written_to_its_end_fails_and_does_not_hang(tmp_path, device):
    (tmp_path / "source").mkdir()
    for number in range(6000):
        (tmp_path / "source" / f"{number:0200d}").touch()
    data = put(device, pack(tmp_path / "source"))
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path / "small"], check=True)
    try:
        told = module(tmp_path, device, data, action="list", listing=str(tmp_path / "small/listing"))
        assert told["msg"] == f"{tmp_path}/small/listing could not be written: No space left on device"
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        ("echo 'ssh: connect to host: Connection refused' >&2; exit 255", "no connection to login@instance"),
        ("exit 0", "ended with status 0, without a result"),
    ],
)
def test_a_target_that_was_made_for_nothing_is_removed(tmp_path, device, ssh, words):
    told = module(tmp_path, device, b"", ssh=ssh, length=MIB, path=str(tmp_path / "new"))
    assert words in told["msg"]
    assert not told["found_bad"]
    assert not (tmp_path / "new").exists()


def test_an_ssh_that_is_not_there_is_told(tmp_path, device):
    told = module(tmp_path, device, b"", length=MIB, path=str(tmp_path / "new"))
    assert "msg" in told  # an empty device is no archive
    os.unlink(tmp_path / "ssh")
    argv = arguments(tmp_path, device, length=MIB, bytes=MIB, sha256="0" * 64, path=str(tmp_path / "other"))
    asked = json.loads((tmp_path / "arguments").read_text())
    asked["ANSIBLE_MODULE_ARGS"]["ssh"] = [str(tmp_path / "nowhere"), "login@instance"]
    (tmp_path / "arguments").write_text(json.dumps(asked))
    done = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    assert "could not be set up: " in json.loads(done.stdout)["msg"]
    assert not (tmp_path / "other").exists()


# ---- volumes of older tools -----------------------------------------------------------------------------------------


def plain_archive(directory: Path) -> bytes:
    """An archive in GNU tar's own format, which has whole seconds only; so the files get such times."""
    for path in (directory, *directory.iterdir()):
        os.utime(path, ns=(0, 10**18))
    argv = ["tar", "--format=gnu", "-b", "1", "-C", str(directory), "-cf", "-", "."]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=os.environ | {MARK: ""}).stdout


@pytest.mark.parametrize("action", ["extract", "list", "count", "compare"])
def test_a_plain_archive_ends_the_stream_without_reading_the_whole_volume(tmp_path, device, source, action):
    (source / "block 9: ** Block of NULs **").write_text("x")
    plain = plain_archive(source)
    put(device, plain)
    # Behind the archive the volume goes on and on, slowly.
    ssh = READY + f"head -c {len(plain)} {device}; while sleep 0.1; do head -c 65536 /dev/urandom; done"
    paths = {"extract": tmp_path / "new", "compare": source}
    asked: dict[str, Any] = {"path": str(paths[action])} if action in paths else {"listing": str(tmp_path / "listing")}
    argv = arguments(tmp_path, device, ssh, action=action, **asked)
    told = json.loads(subprocess.run(argv, check=False, capture_output=True, timeout=60).stdout)
    assert "msg" not in told
    assert told["members"] == 4
    assert len(plain) - MIB <= told["bytes"] < len(plain) + 16 * MIB
    if action == "extract":
        assert snapshot(tmp_path / "new") == snapshot(source)
    if action == "compare":
        assert told["differences"] == []
    if action == "list":
        names = ["./", "./a", "./block 9: ** Block of NULs **", "./z"]
        assert sorted((tmp_path / "listing").read_text().splitlines()) == names


@pytest.mark.timeout(60)
def test_a_plain_archive_ends_the_stream_though_its_end_is_heard_of_only_after_tar_has_gone(tmp_path, device, source):
    plain = plain_archive(source)
    put(device, plain)
    ssh = READY + f"head -c {len(plain)} {device}; while sleep 0.1; do head -c 65536 /dev/urandom; done"
    got = get(tmp_path, device, None, ssh)  # where nobody listens to tar
    assert (got.remote, got.tar, got.pump.broken) == (None, 0, True)


def test_a_plain_archive_that_fills_the_volume_is_read_to_its_end(tmp_path, device):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(os.urandom(SIZE - 4 * 512))
    plain = plain_archive(tmp_path / "source")
    assert len(plain) == SIZE
    put(device, plain)
    argv = arguments(tmp_path, device, path=str(tmp_path / "new"))
    told = json.loads(subprocess.run(argv, check=False, capture_output=True, timeout=60).stdout)
    assert "msg" not in told
    assert snapshot(tmp_path / "new") == snapshot(tmp_path / "source")


def test_a_plain_archive_without_an_end_is_told(tmp_path, device):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(os.urandom(SIZE))
    put(device, plain_archive(tmp_path / "source")[:SIZE])
    argv = arguments(tmp_path, device, path=str(tmp_path / "new"))
    told = json.loads(subprocess.run(argv, check=False, capture_output=True, timeout=60).stdout)
    assert "the archive is damaged: Unexpected EOF in archive" in told["msg"]
    assert told["msg"].endswith(f"; what was restored to {tmp_path}/new is suspect")


def test_a_plain_archive_whose_stream_breaks_is_told(tmp_path, device, source):
    put(device, plain_archive(source))
    ssh = READY + f"head -c 3000000 {device}; exit 255"
    argv = arguments(tmp_path, device, ssh, path=str(tmp_path / "new"))
    told = json.loads(subprocess.run(argv, check=False, capture_output=True, timeout=60).stdout)
    assert "the connection to login@instance broke" in told["msg"]


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("where", ["before", "in the stream", "in the filter"])
def test_the_processes_end_with_the_module(tmp_path, device, source, number, where):
    data = put(device, pack(source))
    begun = tmp_path / "begun"
    hang = f"echo >{begun}; exec sleep 600"
    ssh = {"before": hang, "in the stream": READY + f"head -c 3000000 {device}; {hang}"}.get(where)
    asked: dict[str, Any] = {"path": str(tmp_path / "new")}
    if where == "in the filter":
        asked["local_inverse"] = f"dd bs=64k count=9 2>/dev/null; {hang}"
    asked |= {"length": len(data), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    running = subprocess.Popen(
        arguments(tmp_path, device, ssh, **asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: begun.exists() and len(descendants(running.pid)) >= 2)
        started = descendants(running.pid)
        running.send_signal(number)
        out, _err = running.communicate(timeout=20)
    finally:
        running.kill()
        running.wait()
    wait_until(lambda: not any(is_running(pid) for pid in started))
    if number != signal.SIGKILL:
        result = json.loads(out)
        assert result["failed"]
        assert result["msg"] == f"interrupted by {number.name}: the restore is incomplete"
    if where == "before" and number != signal.SIGKILL:
        assert not (tmp_path / "new").exists()
