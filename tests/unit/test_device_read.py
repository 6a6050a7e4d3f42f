# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The scripts that read on the instance, with several shells and dds, on real block devices. None of them may write."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device import read as device_read
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.protocol import Reports, trouble
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format import manifest
from tests.unit import devices
from tests.unit.devices import MIB, Host, loop_device, needs_root

pytestmark = needs_root

SIZE = 8 * MIB
GIB = 1024 * MIB
BLOCK = manifest.BLOCK_BYTES
VOLUME = "vol-0123456789abcdef0"
PORTABLE = {"grep -q coreutils": "false"}
SEARCH_PATH = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
PLAIN_TOOLS = "sh id dd stat cat sed head tail date sleep readlink sync tr wc grep mount mktemp mkdir rm echo printf"


def regions(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield what is in a file that may be sparse."""
    with path.open("rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            offset = min(start + MIB, os.lseek(file.fileno(), start, os.SEEK_HOLE))
            yield start, os.pread(file.fileno(), offset - start, start)


def sum_of(path: Path) -> str:
    """Return a sum of a file's content and of where its holes are."""
    digest = hashlib.sha256()
    for start, data in regions(path):
        digest.update(b"%d %d\n" % (start, len(data)) + data)
    return digest.hexdigest()


class Volume(Host):
    """A host with a device that the tests write to, and the scripts must not."""

    def __init__(self, top: Path, image: Path, loop: Path, size: int) -> None:
        super().__init__(top, loop, size)
        self.image = image
        self.node("sdf")

    def put(self, offset: int, data: bytes) -> None:
        with self.loop.open("r+b") as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def read(
        self, script: str, shell: str = "dash", changes: dict[str, str] | None = None
    ) -> tuple[Reports, bytes, int]:
        """Run a script; return what it told, its stdout, and its status. The device must be as it was before."""
        before = sum_of(self.image)
        done = self.execute(script, ["sdf"], shell, changes)
        subprocess.run(["sync", str(self.image)], check=True)
        assert sum_of(self.image) == before
        reports = Reports()
        for line in done.stderr.decode("utf-8", "replace").splitlines():
            reports.feed(line)
        for raw in done.stdout.split(b"\n"):
            reports.feed(raw.decode("utf-8", "replace"))
        return reports, done.stdout, done.returncode

    def peek(self, shell: str = "dash", changes: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
        """Return the block's end, the block, and the volume's beginning."""
        reports, out, status = self.read(device_read.peek_script(VOLUME, self.size, timeout=0), shell, changes)
        ready, line, data = out.split(b"\n", 2)
        assert (status, ready) == (0, f"ec2-backup:ready {self.top}/dev/sdf {self.size}".encode())
        assert line.startswith(device_read.BLOCKS.encode() + b" ")
        assert len(data) == 2 * BLOCK
        assert reports.code is None
        return int(line.split()[1]), data[:BLOCK], data[BLOCK:]

    def send(
        self, length: int, shell: str = "dash", changes: dict[str, str] | None = None, remote_filter: str | None = None
    ) -> tuple[Reports, bytes, int]:
        """Return what was told, what came behind the line STREAM, and the status."""
        script = device_read.send_script(VOLUME, self.size, length, remote_filter, timeout=0)
        reports, out, status = self.read(script, shell, changes)
        marker = device_read.STREAM.encode() + b"\n"
        return reports, out[len(marker) :] if out.startswith(marker) else out, status

    def sum(
        self,
        length: int,
        shell: str = "dash",
        changes: dict[str, str] | None = None,
        remote_filter: str | None = None,
        walk: bool = True,
    ) -> tuple[Reports, bytes, int]:
        script = device_read.sum_script(VOLUME, self.size, length, remote_filter, walk, timeout=0)
        return self.read(script, shell, changes)


def make(tmp_path: Path, size: int) -> Iterator[Volume]:
    with loop_device(tmp_path / "image", size) as loop:
        yield Volume(tmp_path / "root", tmp_path / "image", loop, size)


@pytest.fixture
def volume(tmp_path):
    yield from make(tmp_path, SIZE)


@pytest.fixture
def large(tmp_path):
    """Nearly all of it is one hole."""
    yield from make(tmp_path, 3 * GIB)


@pytest.fixture(params=devices.SHELLS)
def shell(request):
    return devices.need_shell(request.param)


@pytest.fixture(params=["gnu", "portable"])
def changes(request):
    return PORTABLE if request.param == "portable" else {}


def block_of(volume_bytes: int, run_id: str = "run") -> bytes:
    """A complete manifest's block."""
    return manifest.pad(
        manifest.encode(
            manifest.complete(
                run_id=run_id,
                host="host",
                path="/srv",
                stream_bytes=MIB,
                stream_sha256="0" * 64,
                stored_bytes=MIB,
                volume_bytes=volume_bytes,
                started="2026-11-22T18:45:00Z",
                finished="2026-11-22T18:46:00Z",
                version="0.1.0",
            )
        )
    )


def archive(directory: Path, members: int = 3) -> bytes:
    (directory / "archived").mkdir()
    for number in range(members):
        (directory / f"archived/{number}").write_bytes(os.urandom(70_000))
    argv = ["tar", "--format=posix", "-b", "2048", "-C", str(directory / "archived"), "-cf", "-", "."]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout


def only(tools: Path, words: str, source: str = "") -> dict[str, str]:
    """Return the change to a script after which it finds no programs but these."""
    tools.mkdir()
    for name in words.split():
        (tools / name).symlink_to(str(shutil.which(source or name)))
    return {SEARCH_PATH: f"PATH={tools}"}


# ---- the manifest ---------------------------------------------------------------------------------------------------


def test_the_block_at_the_end_and_the_first_one_are_sent(volume, shell, changes):
    first, block = os.urandom(BLOCK), block_of(SIZE)
    volume.put(0, first)
    volume.put(SIZE - BLOCK, block)
    assert volume.peek(shell, changes) == (SIZE, block, first)


def test_without_a_manifest_the_last_block_is_sent_as_it_is(volume, shell):
    last = os.urandom(BLOCK)
    volume.put(SIZE - BLOCK, last)
    assert volume.peek(shell) == (SIZE, last, bytes(BLOCK))


@pytest.mark.parametrize("former", [1, 2])
def test_the_manifest_of_a_volume_that_was_enlarged_is_at_its_former_end(large, shell, former):
    block = block_of(former * GIB)
    large.put(former * GIB - BLOCK, block)
    end, found, _ = large.peek(shell)
    assert (end, found) == (former * GIB, block)
    assert manifest.decode(found, end)["volume"]["bytes"] == former * GIB


def test_a_volume_that_was_enlarged_with_nothing_on_it_is_looked_at_at_its_true_end(large, shell):
    assert large.peek(shell) == (3 * GIB, bytes(BLOCK), bytes(BLOCK))


def test_of_several_manifests_the_last_one_counts(large, shell):
    for former in (1, 2):
        large.put(former * GIB - BLOCK, block_of(former * GIB))
    assert large.peek(shell)[0] == 2 * GIB
    large.put(3 * GIB - BLOCK, block_of(3 * GIB))
    assert large.peek(shell)[0] == 3 * GIB


@pytest.mark.parametrize("position", [0, 10, 19])
@pytest.mark.parametrize("byte", [b"\0", b"\n", b"\xff", b"x", b"\r", b"\\"])
def test_a_manifest_whose_magic_alone_is_damaged_hides_an_older_one(large, position, byte):
    large.put(GIB - BLOCK, block_of(GIB, "older"))
    block = bytearray(block_of(3 * GIB))
    block[position : position + 1] = byte
    large.put(3 * GIB - BLOCK, bytes(block))
    end, found, _ = large.peek()
    assert (end, found) == (3 * GIB, block)
    with pytest.raises(manifest.ManifestError, match="its first words are wrong"):
        manifest.decode(found, end)


@pytest.mark.parametrize("magic", [bytes(20), bytes(range(200, 220)), b"\n" * 20], ids=["zeros", "high", "lines"])
def test_a_manifest_whose_whole_magic_is_damaged_hides_an_older_one(large, shell, magic):
    large.put(GIB - BLOCK, block_of(GIB, "older"))
    large.put(3 * GIB - BLOCK, magic + block_of(3 * GIB)[20:])
    assert large.peek(shell)[0] == 3 * GIB


def test_a_device_of_another_size_is_not_looked_at(volume, shell):
    script = device_read.peek_script(VOLUME, SIZE + 512, timeout=0)
    reports, out, status = volume.read(script, shell)
    assert (reports.code, status) == ("size", 77)
    assert device_read.BLOCKS.encode() not in out


# ---- the stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 511, 512, 65535, MIB, MIB + 77])
def test_exactly_the_first_bytes_are_sent(volume, shell, changes, length):
    data = os.urandom(2 * MIB)
    volume.put(0, data)
    reports, out, status = volume.send(length, shell, changes)
    assert out == data[:length]
    assert (status, reports.code, reports.stored_bytes) == (0, None, length)
    assert reports.ready


def test_a_whole_volume_is_sent(volume, shell, changes):
    data = os.urandom(SIZE)
    volume.put(0, data)
    reports, out, _ = volume.send(SIZE, shell, changes)
    assert (out == data, reports.stored_bytes) == (True, SIZE)


def test_the_remote_filter_is_undone_before_the_stream_leaves(volume, shell, changes):
    data = bytes(range(256)) * 9000
    packed = subprocess.run(["gzip", "-1"], input=data, check=True, stdout=subprocess.PIPE).stdout
    volume.put(0, packed + os.urandom(3000))  # what stands behind it is none of the filter's business
    reports, out, status = volume.send(len(packed), shell, changes, "gzip -dc")
    assert out == data
    assert (status, reports.code, reports.stored_bytes) == (0, None, len(packed))


@pytest.mark.parametrize(
    ("remote_filter", "words"),
    [
        ("cat; exit 3", "the filter that undoes the remote one ended with status 3"),
        ("head -c 1000; exit 4", "the filter that undoes the remote one ended with status 4"),
        ("kill -9 $$", "the filter that undoes the remote one ended with status 137"),
        ("no-such-command-at-all", "the filter that undoes the remote one ended with status 127"),
        ("head -c 1000", "dd ended with status"),
    ],
)
def test_a_filter_that_does_not_do_its_work_is_told(volume, shell, remote_filter, words):
    volume.put(0, os.urandom(4 * MIB))
    reports, _, status = volume.send(4 * MIB, shell, remote_filter=remote_filter)
    assert (status, reports.stored_bytes) == (78, None)
    assert words in reports.text
    reports, _, status = volume.sum(4 * MIB, shell, remote_filter=remote_filter)
    assert (status, reports.stored_bytes, reports.sha256) == (78, None, None)
    assert words in reports.text


def test_what_a_filter_says_is_not_taken_for_its_status(volume, shell):
    volume.put(0, b"data")
    reports, out, _ = volume.send(4, shell, remote_filter="cat; echo @dd=7 >&2; echo @filter=9 >&2")
    assert (out, reports.code, reports.stored_bytes) == (b"data", None, 4)


@pytest.mark.parametrize("asked", ["send", "sum"])
def test_a_device_that_vanishes_is_told(volume, shell, asked):
    volume.put(0, os.urandom(MIB))
    reports, _, status = getattr(volume, asked)(MIB, shell, remote_filter=f"cat; rm {volume.top}/dev/sdf")
    assert (reports.code, reports.stored_bytes, status) == ("vanished", None, 78)
    assert "dev/sdf is gone" in reports.text
    assert not (volume.top / "dev/sdf").exists()


def test_a_read_error_is_told(volume, shell, changes):
    """The image behind the device is shorter than the device: what is beyond it cannot be read."""
    volume.put(0, b"x" * MIB)
    os.truncate(volume.image, 3 * MIB)
    reports, _, status = volume.send(6 * MIB, shell, changes)
    assert (reports.code, reports.stored_bytes, status) == ("dd", None, 78)
    assert "Input/output error" in reports.text
    reports, _, status = volume.sum(6 * MIB, shell, changes)
    assert (reports.code, reports.sha256, status) == ("dd", None, 78)


# ---- the sum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 512, MIB, MIB + 77, SIZE])
def test_the_sum_is_that_of_the_first_bytes(volume, shell, changes, length):
    data = os.urandom(SIZE)
    volume.put(0, data)
    reports, _, status = volume.sum(length, shell, changes, walk=False)
    assert reports.sha256 == hashlib.sha256(data[:length]).hexdigest()
    assert (status, reports.code, reports.stored_bytes, reports.members) == (0, None, length, None)


def test_the_members_are_counted(volume, tmp_path, shell, changes):
    data = archive(tmp_path, 5)
    volume.put(0, data)
    volume.put(len(data), os.urandom(MIB))
    reports, _, _ = volume.sum(len(data), shell, changes)
    assert (reports.sha256, reports.members, reports.code) == (hashlib.sha256(data).hexdigest(), 6, None)


def test_the_members_are_counted_behind_a_filter(volume, tmp_path, shell):
    data = archive(tmp_path, 5)
    packed = subprocess.run(["gzip", "-1"], input=data, check=True, stdout=subprocess.PIPE).stdout
    volume.put(0, packed)
    reports, _, _ = volume.sum(len(packed), shell, remote_filter="gzip -dc")
    assert (reports.sha256, reports.members, reports.code) == (hashlib.sha256(data).hexdigest(), 6, None)


@pytest.mark.parametrize("remote_filter", [None, "cat"])
def test_an_archive_that_is_damaged_is_told_with_its_sum(volume, tmp_path, shell, remote_filter):
    data = bytearray(archive(tmp_path))
    data[1024:1224] = os.urandom(200)
    volume.put(0, bytes(data))
    reports, _, status = volume.sum(len(data), shell, remote_filter=remote_filter)
    assert reports.sha256 == hashlib.sha256(data).hexdigest()
    assert (reports.code, reports.stored_bytes, status) == ("archive", None, 78)
    assert reports.text.startswith("its archive cannot be read to the end: tar: ")


def test_without_tar_the_members_are_not_counted(volume, tmp_path, shell):
    data = archive(tmp_path)
    volume.put(0, data)
    without = only(tmp_path / "tools", PLAIN_TOOLS + " sha256sum " + devices.SHELLS[shell][0])
    reports, _, _ = volume.sum(len(data), shell, without)
    assert (reports.sha256, reports.members, reports.code) == (hashlib.sha256(data).hexdigest(), None, None)
    assert reports.stored_bytes == len(data)


@pytest.mark.parametrize("program", ["openssl", "shasum"])
def test_another_program_makes_the_sum_where_there_is_no_sha256sum(volume, tmp_path, program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    volume.put(0, b"data")
    tools = only(tmp_path / "tools", f"{PLAIN_TOOLS} {program} env perl")
    reports, _, _ = volume.sum(4, "dash", tools, walk=False)
    assert reports.sha256 == hashlib.sha256(b"data").hexdigest()


def test_without_any_such_program_that_is_told(volume, tmp_path, shell):
    without = only(tmp_path / "tools", PLAIN_TOOLS + " " + devices.SHELLS[shell][0])
    if shell == "busybox":  # its sh may run its own sha256sum whether or not that is on the PATH
        without["has sha256sum"] = "false"
    reports, _, status = volume.sum(4, shell, without)
    assert (reports.code, status) == ("tool", 77)
    assert trouble(reports, VOLUME, 0) == (
        f"volume {VOLUME}: there is no program on the instance that makes a SHA-256 sum: refused"
    )


def test_no_temporary_files_are_left(volume, tmp_path, shell, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    volume.put(0, archive(tmp_path))
    assert volume.sum(MIB, shell)[0].code is None
    assert volume.sum(MIB, shell, remote_filter="false")[0].code == "filter"
    assert list((tmp_path / "temporary").iterdir()) == []


# ---- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_device_is_only_ever_opened_to_be_read(volume, tmp_path):
    volume.put(0, archive(tmp_path))
    scripts = [
        device_read.peek_script(VOLUME, SIZE, timeout=0),
        device_read.send_script(VOLUME, SIZE, MIB + 77, timeout=0),
        device_read.sum_script(VOLUME, SIZE, MIB + 77, timeout=0),
    ]
    tracing = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace")]
    for script in scripts:
        done = volume.execute(script, ["sdf"], before=tracing)
        assert done.returncode == 0
        opened = [line for line in (tmp_path / "trace").read_text().splitlines() if re.search(r"open.*dev/sdf", line)]
        assert len(opened) > 1
        assert not [line for line in opened if re.search("O_WRONLY|O_RDWR", line)]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_busybox_alone_suffices(volume, tmp_path):
    data = archive(tmp_path)
    volume.put(0, data)
    volume.put(SIZE - BLOCK, block_of(SIZE))
    tools = only(tmp_path / "tools", PLAIN_TOOLS + " sha256sum tar", "busybox")
    assert volume.peek("busybox", tools) == (SIZE, block_of(SIZE), data[:BLOCK])
    assert volume.send(len(data) - 77, "busybox", tools)[1] == data[:-77]
    reports, _, _ = volume.sum(len(data), "busybox", tools)
    assert (reports.sha256, reports.members) == (hashlib.sha256(data).hexdigest(), 4)
