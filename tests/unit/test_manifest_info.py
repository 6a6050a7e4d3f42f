# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a volume says of itself, read from a real block device: each state it can be in has its own answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format import manifest
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive
from ansible_collections.ec2_backup.ebs.plugins.modules import manifest_info
from tests.unit.devices import MIB, attached, children, local_ssh, loop_device, needs_root

pytestmark = needs_root

SIZE = 8 * MIB
GIB = 1024 * MIB
BLOCK = manifest.BLOCK_BYTES
VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def device(tmp_path):
    with loop_device(tmp_path / "image", SIZE) as path:
        yield path


def ask(tmp_path: Path, device: Path, ssh: list[str] | None = None, **asked: Any) -> dict[str, Any]:
    """Run the module in this process; return what it says. It must have left the device as it was."""
    said: list[dict[str, Any]] = []

    class Ended(BaseException):
        pass

    def end(self, **result):
        said.append(result)
        raise Ended

    known = {"ssh": ssh or local_ssh(tmp_path), "volume_id": VOLUME, "volume_size": SIZE, "device_exact": str(device)}
    before = sum_of(device)
    with pytest.MonkeyPatch.context() as patch, patch_module_args(known | {"timeout": 0} | asked):
        patch.setattr(basic.AnsibleModule, "exit_json", end)
        patch.setattr(basic.AnsibleModule, "fail_json", end)
        with pytest.raises(Ended):
            manifest_info.main()
    assert sum_of(device) == before
    assert children() == []
    assert "\n" not in said[0].get("msg", "")
    return said[0]


def sum_of(device: Path) -> str:
    """Of the volume's first and last MiB: it may be large."""
    with device.open("rb") as file:
        first = file.read(MIB)
        file.seek(-MIB, os.SEEK_END)
        return hashlib.sha256(first + file.read()).hexdigest()


def put(device: Path, data: bytes, offset: int = 0) -> None:
    with device.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def complete(volume_bytes: int = SIZE, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "run_id": "run",
        "host": "web1",
        "path": "/srv",
        "stream_bytes": MIB,
        "stream_sha256": "0" * 64,
        "stored_bytes": MIB,
        "volume_bytes": volume_bytes,
        "started": "2026-11-22T18:45:00Z",
        "finished": "2026-11-22T18:46:00Z",
        "version": "0.1.0",
    }
    return manifest.complete(**(known | more))


def write(device: Path, document: dict[str, Any], end: int = SIZE) -> bytes:
    block = manifest.pad(manifest.encode(document))
    put(device, block, end - BLOCK)
    return block


def our_archive(tmp_path: Path) -> bytes:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("x")
    argv = archive.tar_arguments(str(tmp_path / "source"), "-")
    return subprocess.run(argv, check=True, capture_output=True).stdout


def plain_archive(tmp_path: Path) -> bytes:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("x")
    return subprocess.run(["tar", "-C", tmp_path / "source", "-cf", "-", "."], check=True, capture_output=True).stdout


def test_a_complete_backup_is_described(tmp_path, device):
    document = complete()
    write(device, document)
    told = ask(tmp_path, device)
    assert told == {
        "changed": False,
        "plain": False,
        "manifest": document,
        "local_inverse": "",
        "remote_inverse": "",
    }


def test_check_mode_gives_the_same_answer(tmp_path, device):
    write(device, complete())
    assert ask(tmp_path, device, _ansible_check_mode=True) == ask(tmp_path, device)


@pytest.mark.parametrize("first", ["nothing", "archive"])
def test_a_backup_that_was_not_finished_is_none(tmp_path, device, first):
    if first == "archive":
        put(device, our_archive(tmp_path))
    document = manifest.writing(run_id="run", host="web1", path="/srv", started="2026-11-22T18:45:00Z", version="0.1.0")
    write(device, document)
    told = ask(tmp_path, device)
    assert told["msg"] == (
        f"Volume {VOLUME}: it holds no complete backup: the one of web1:/srv, begun at 2026-11-22T18:45:00Z, "
        "was not finished"
    )
    assert told["found_bad"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("magic", "its first words are wrong"),
        ("checksum", "its checksum is wrong"),
        ("line end", "its header line is malformed"),
        ("document", "its checksum is wrong"),
    ],
)
def test_one_wrong_byte_in_the_manifest_is_damage_though_an_archive_is_there(tmp_path, device, where, words):
    put(device, our_archive(tmp_path))
    block = write(device, complete())
    end = block.index(b"\n")
    offset = {"magic": 0, "checksum": end - 1, "line end": end, "document": 200}[where]
    wrong = b"1" if block[offset : offset + 1] == b"0" else b"0"
    put(device, wrong, SIZE - BLOCK + offset)
    told = ask(tmp_path, device)
    assert told["msg"].startswith(f"Volume {VOLUME}: the manifest at the volume's end is damaged: {words}; ")
    assert told["found_bad"]


def test_a_manifest_from_the_future_asks_for_a_newer_tool(tmp_path, device):
    block = write(device, complete())
    put(device, block.replace(b"MANIFEST 1 ", b"MANIFEST 2 ", 1)[:BLOCK], SIZE - BLOCK)
    told = ask(tmp_path, device)
    assert "has format version 2, and this ec2-backup knows none above 1: use a newer" in told["msg"]
    assert not told["found_bad"]


def test_a_backup_of_ours_without_a_manifest_has_lost_it(tmp_path, device):
    put(device, our_archive(tmp_path))
    told = ask(tmp_path, device)
    assert told["msg"].startswith(f"Volume {VOLUME}: its manifest is lost, though a backup of ours begins on it")
    assert told["found_bad"]


def test_a_truncated_volume_is_not_taken_for_a_backup(tmp_path, device):
    put(device, our_archive(tmp_path))
    write(device, complete())
    os.truncate(tmp_path / "image", SIZE // 2)
    with attached(tmp_path / "image") as half:
        assert "its manifest is lost" in ask(tmp_path, half, volume_size=SIZE // 2)["msg"]
        assert "has 4194304 bytes, the volume has 8388608" in ask(tmp_path, half)["msg"]


def test_an_archive_of_an_older_tool_is_taken_as_it_is(tmp_path, device):
    put(device, plain_archive(tmp_path))
    told = ask(tmp_path, device)
    assert (told["plain"], told["manifest"], told["changed"]) == (True, {}, False)


@pytest.mark.parametrize("content", [b"", os.urandom(4096), b"\x1f\x8b\x08\0" + bytes(1000)], ids=["0", "any", "gzip"])
def test_what_is_no_backup_is_called_so(tmp_path, device, content):
    put(device, content)
    told = ask(tmp_path, device)
    assert (told["msg"], told["found_bad"]) == (
        f"Volume {VOLUME}: it holds neither a manifest nor a tar archive: it is no backup, or a damaged one",
        True,
    )


def test_a_volume_that_was_enlarged_is_still_described(tmp_path):
    with loop_device(tmp_path / "image", 2 * GIB) as large:
        document = complete(GIB)
        write(large, document, GIB)
        assert ask(tmp_path, large, volume_size=2 * GIB)["manifest"] == document


def test_the_manifest_of_another_size_at_a_former_end_is_not_believed(tmp_path):
    with loop_device(tmp_path / "image", 2 * GIB) as large:
        write(large, complete(2 * GIB), GIB)
        assert "it was written for a volume of 2147483648 bytes" in ask(tmp_path, large, volume_size=2 * GIB)["msg"]


# ---- filters --------------------------------------------------------------------------------------------------------


def test_known_filters_are_undone_by_what_we_know(tmp_path, device):
    write(device, complete(local_filter="gzip -9", remote_filter="zstd -3 -T0"))
    told = ask(tmp_path, device)
    assert (told["local_inverse"], told["remote_inverse"]) == ("gzip -dc", "zstd -dc")


def test_a_command_found_on_the_volume_is_quoted_and_never_run(tmp_path, device):
    run = f"touch {tmp_path}/run"
    write(device, complete(local_filter="gpg -e -r me", local_inverse=run))
    assert ask(tmp_path, device)["msg"] == (
        f"Volume {VOLUME}: it went through the local filter `gpg -e -r me`, and how that is undone has to be given "
        f"with -l (ec2_backup_restore_local_filter); it is said to be undone by: {run}"
    )
    assert not (tmp_path / "run").exists()
    assert ask(tmp_path, device, local_inverse="cat")["local_inverse"] == "cat"


def test_a_recorded_inverse_does_not_take_the_place_of_the_known_one(tmp_path, device):
    write(device, complete(local_filter="gzip", local_inverse=f"touch {tmp_path}/run; gzip -dc"))
    assert ask(tmp_path, device)["local_inverse"] == "gzip -dc"


def test_an_unknown_remote_filter_asks_for_its_own_option(tmp_path, device):
    write(device, complete(remote_filter="my-filter"))
    told = ask(tmp_path, device)
    assert told["msg"].endswith("how that is undone has to be given with -r (ec2_backup_restore_remote_filter)")
    assert not told["found_bad"]


def test_control_characters_in_a_filter_do_not_reach_the_terminal(tmp_path, device):
    write(device, complete(local_filter="evil\n\033[2Jfilter", local_inverse="a\nb"))
    assert ask(tmp_path, device)["msg"].isprintable()


def test_control_characters_in_the_source_do_not_reach_the_terminal(tmp_path, device):
    document = manifest.writing(
        run_id="run", host="web1\n", path="/srv/\033[2J", started="2026-11-22T18:45:00Z", version="0.1.0"
    )
    write(device, document)
    assert ask(tmp_path, device)["msg"].isprintable()


def test_a_program_that_is_not_here_is_named(tmp_path, device):
    write(device, complete(local_filter="lzip"))
    told = ask(tmp_path, device, local_inverse="no-such-program -dc")["msg"]
    assert told.endswith("no-such-program, which undoes the filter of its archive, is not installed on this host")


# ---- the session ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        ("echo 'ssh: connect to host: Connection refused' >&2; exit 255", "no connection to login@instance: ssh: conn"),
        ("exit 0", "the session on login@instance ended with status 0, without a result"),
    ],
)
def test_a_session_that_fails_is_told_with_its_words(tmp_path, device, ssh, words):
    told = ask(tmp_path, device, local_ssh(tmp_path, ssh))
    assert words in told["msg"]
    assert set(told["stderr_of"]) == {"ssh"}
    assert not told["found_bad"]


def test_an_ssh_that_is_not_there_is_told(tmp_path, device):
    assert "ssh could not be run: " in ask(tmp_path, device, ["/no/where", "login@instance"])["msg"]
