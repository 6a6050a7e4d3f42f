# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters by name, and that each is undone by the command that is derived from what is recorded of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.write import write_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format import filters, manifest
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import FilterError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import tar_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import StreamError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.receive import Tar
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.send import send
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import list_arguments
from ansible_collections.ec2_backup.ebs.plugins.modules import manifest_info, source_info
from ec2_backup.commands import backup
from ec2_backup.status import UserError
from tests.unit.devices import MIB, children, local_ssh, loop_device, needs_root, write_program

DATA = os.urandom(300_000) + bytes(700_000)
STRANGER = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"  # the README's of age


def run(command: str, data: bytes) -> bytes:
    return subprocess.run(["sh", "-c", command], input=data, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def age(tmp_path: Path) -> tuple[str, Path]:
    """A recipient, and the file with its identity, whose name a shell would take apart."""
    file = tmp_path / "my $(key) 'file'"
    subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
    made = subprocess.run(["age-keygen", "-y", file], check=True, capture_output=True, text=True)
    return made.stdout.strip(), file


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A user ID with a key of its own, in a keyring that is only here."""
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    (home / "gpg.conf").write_text("armor\n")  # a user's, which would make the stream a third longer
    user = "It's me <me@example.com>"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(home))
        words = [
            "gpg",
            "--batch",
            "--passphrase",
            "",
            "--quick-generate-key",
            user,
            "future-default",
            "default",
            "never",
        ]
        subprocess.run(words, check=True, capture_output=True)
        yield user
        subprocess.run(["gpgconf", "--kill", "all"], check=True)


LEVELS = ["zstd", "zstd:1", "zstd:22", "gzip", "gzip:9", "xz", "xz:0", "lz4", "lz4:12", "bzip2", "bzip2:1"]


@pytest.mark.parametrize("name", LEVELS)
def test_a_compressor_by_name_is_undone(name):
    command = filters.compose(name)
    inverse = filters.known_inverse(command)
    packed = run(command, DATA)
    assert len(packed) < len(DATA) / 2
    assert inverse is not None
    assert run(inverse, packed) == DATA
    assert filters.programs(inverse) == [name.partition(":")[0]]


@pytest.mark.parametrize("name", LEVELS)
def test_what_cannot_be_compressed_gets_no_longer_than_what_is_planned_for(name):
    data = os.urandom(MIB)
    assert len(run(filters.compose(name), data)) < len(data) * 1.01


@pytest.mark.parametrize("compress", ["", "zstd:9", "lz4"])
def test_what_age_encrypted_is_undone_with_the_identity_alone(age, compress):
    recipient, file = age
    command = filters.compose(compress, "age:" + recipient)
    assert filters.encrypts(command) == "age"
    assert filters.known_inverse(command) is None
    inverse = filters.known_inverse(command, str(file))
    assert inverse is not None
    encrypted = run(command, DATA)
    assert len(encrypted) < len(DATA) * 1.01
    assert DATA[:1000] not in encrypted
    assert run(inverse, encrypted) == DATA


def test_what_age_encrypted_for_an_ssh_key_is_undone(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "it's; me", "-f", tmp_path / "id"], check=True)
    command = filters.compose(encrypt="age:" + (tmp_path / "id.pub").read_text().strip())
    inverse = filters.known_inverse(command, str(tmp_path / "id"))
    assert inverse is not None
    assert run(inverse, run(command, DATA)) == DATA


@pytest.mark.parametrize("compress", ["", "gzip"])
def test_what_gpg_encrypted_is_undone_by_its_keyring(gpg, compress):
    command = filters.compose(compress, "gpg:" + gpg)
    assert filters.encrypts(command) == "gpg"
    inverse = filters.known_inverse(command)
    encrypted = run(command, DATA)
    assert len(encrypted) < len(DATA) * 1.01
    assert inverse is not None
    assert run(inverse, encrypted) == DATA


@pytest.mark.parametrize(
    ("compress", "encrypt", "message"),
    [
        ("rar", "", "rar is no compressor that is known: choose one of zstd, gzip"),
        ("zstd:0", "", "from 1 to 22"),
        ("zstd:-5", "", "from 1 to 22"),
        ("zstd:", "", "from 1 to 22"),
        ("zstd:3 -o /etc/passwd", "", "from 1 to 22"),
        ("gzip:10", "", "from 1 to 9"),
        ("xz:9e", "", "from 0 to 9"),
        ("zstd;id", "", "no compressor that is known"),
        ("", "age", "write age:RECIPIENT"),
        ("", "age:", "write age:RECIPIENT"),
        ("", "rot13:me", "write age:RECIPIENT"),
        ("", "age:-p", "not one of age's"),
        ("", "age:age1ABC", "not one of age's"),
        ("", "age:age1abc\n", "not one of age's"),
        ("", "age:ssh-ed25519 AAAA\nid", "not one of age's"),
        ("", "age:AGE-SECRET-KEY-1QQQ", "that is a secret key"),
        ("", "gpg:--output=/etc/passwd", "not one of gpg's"),
        ("", "gpg:a\nb", "not one of gpg's"),
    ],
)
def test_a_filter_that_there_is_not_is_refused_in_one_line(compress, encrypt, message):
    with pytest.raises(FilterError, match=message) as caught:
        filters.compose(compress, encrypt)
    assert "\n" not in str(caught.value)
    assert "QQQ" not in str(caught.value)


@pytest.mark.parametrize("recipient", ["a b", "$(touch /tmp/x)", "it's", '"', "a | gzip -c", "a;b", "\\", "ü"])
def test_a_recipient_is_one_word_whatever_it_holds(tmp_path, monkeypatch, recipient):
    (tmp_path / "bin").mkdir()
    echo = 'for word; do last=$word; done; printf %s "$last"'
    write_program(tmp_path / "bin/gpg", echo)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    command = filters.compose("gzip", "gpg:" + recipient)
    assert run(command, b"").decode() == recipient
    assert filters.stages(command) == ["gzip -n -c", filters.compose(encrypt="gpg:" + recipient)]
    assert filters.known_inverse(command) == "gpg --batch -q -d | gzip -dc"


GPG = "gpg --batch --yes -q --no-armor --no-auto-key-locate --trust-model always --compress-algo none -e -r "


@pytest.mark.parametrize(
    "command",
    [
        f"age -r {STRANGER}; id",
        f"age -r {STRANGER} | id",
        f"age  -r {STRANGER}",
        f"age -r {STRANGER} -o /etc/passwd",
        f"age -R {STRANGER}",
        f"/opt/age -r {STRANGER}",
        f"age -r '{STRANGER}'",
        "age -r $(id)",
        "age -r `id`",
        "age -r ''",
        "age -r",
        "age -r 'a",
        "age -r --decrypt",
        GPG + '"$(id)"',
        GPG + "a b",
        GPG + "'a'b",
        GPG + "'a' ",
        GPG + "~root",
        GPG + "*",
        f"id | age -r {STRANGER}",
        f"gzip -d | age -r {STRANGER}",
        f"gzip -c | id | age -r {STRANGER}",
        f"gzip -c |age -r {STRANGER}",
        f"gzip -c\n | age -r {STRANGER}",
        f"age -r {STRANGER} | gzip -c",
        f"age -r {STRANGER}\n",
        "gpg -e -r me",
        GPG + "a" * 5000,
    ],
)
def test_nothing_but_our_own_words_is_taken_for_an_encryption(command):
    assert filters.known_inverse(command, "/key") is None
    assert filters.encrypts(command) == ""


def test_the_manifest_says_how_an_encryption_is_undone(age):
    recorded = manifest.complete(
        run_id="run",
        host="web1",
        path="/srv",
        stream_bytes=1,
        stream_sha256="0" * 64,
        stored_bytes=1,
        volume_bytes=1 << 30,
        started="2026-11-22T18:45:00Z",
        finished="2026-11-22T18:46:00Z",
        version="0.1.0",
        local_filter=filters.compose("zstd", "age:" + age[0]),
        selection={"exclude": ["*.o"]},
    )
    assert recorded["filters"]["local"]["inverse"] == "age -d -i IDENTITY | zstd -dc"
    assert manifest.decode(manifest.pad(manifest.encode(recorded)))["selection"] == {"exclude": ["*.o"]}


def test_what_undoes_an_encryption_is_asked_of_the_person_and_not_of_the_volume(age):
    recipient, file = age
    recorded = {"command": filters.compose("gzip", "age:" + recipient), "inverse": "id"}
    assert manifest_info.inverse("local", recorded, None, str(file)) == filters.known_inverse(
        recorded["command"], str(file)
    )
    assert manifest_info.inverse("local", recorded, "mine", str(file)) == "mine"
    assert manifest_info.inverse("local", recorded, None, None, leave_encrypted=True) == ""
    for side, identity, message in (
        ("local", None, "--identity"),
        ("local", "/nowhere/key", "/nowhere/key cannot be read"),
        ("remote", str(file), "has to be given with -r"),
    ):
        with pytest.raises(manifest_info.Unreadable, match=message):
            manifest_info.inverse(side, recorded, None, identity)


def test_the_wrappers_options_become_role_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--exclude", "*.o", "--exclude", "./x", "--exclude-from", "f", "--exclude-caches", "--one-file-system"]
    arguments = backup.parser().parse_args([*words, "--compress", "xz:3", "--encrypt", "gpg:me", "dir"])
    asked = backup.role_variables(arguments, "run")
    backup.check_filters(asked)
    assert {name: value for name, value in asked.items() if name not in ("ec2_backup_source", "ec2_backup_run_id")} == {
        "ec2_backup_exclude": ["*.o", "./x"],
        "ec2_backup_exclude_from": [str(tmp_path / "f")],
        "ec2_backup_exclude_caches": True,
        "ec2_backup_one_file_system": True,
        "ec2_backup_compress": "xz:3",
        "ec2_backup_encrypt": "gpg:me",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compress", "zstd:99"], "from 1 to 22"),
        (["--encrypt", "age:me"], "not one of age's"),
        (["--compress", "zstd", "-l", "cat"], "cannot be combined"),
        (["--encrypt", "gpg:me", "-l", "cat"], "cannot be combined"),
    ],
)
def test_filters_that_cannot_be_are_wrong_usage(words, message):
    with pytest.raises(UserError, match=message) as caught:
        backup.check_filters(backup.role_variables(backup.parser().parse_args([*words, "dir"]), "run"))
    assert caught.value.status == 2


# ---- before anything is launched ------------------------------------------------------------------------------------


def ask(path: Path, **asked: Any) -> dict[str, Any]:
    """Run source_info in this process; return what it says."""
    said: list[dict[str, Any]] = []

    class Ended(BaseException):
        pass

    def end(_self, **result):
        said.append(result)
        raise Ended

    with pytest.MonkeyPatch.context() as patch, patch_module_args({"path": str(path), **asked}):
        patch.setattr(basic.AnsibleModule, "exit_json", end)
        patch.setattr(basic.AnsibleModule, "fail_json", end)
        with pytest.raises(Ended):
            source_info.main()
    assert "\n" not in said[0].get("msg", "")
    return said[0]


def test_the_programs_and_the_recipient_are_tried_before_anything_is_launched(tmp_path, gpg, monkeypatch):
    (tmp_path / "data").mkdir()
    typo = STRANGER[:-1] + "q"
    for asked, message in (
        ({"encrypt": "age:" + typo}, "malformed recipient"),
        ({"encrypt": "gpg:nobody@example.com"}, "No public key|no key|skipped"),
        ({"compress": "gzip", "local_filter": "cat"}, "cannot be combined"),
        (
            {"local_filter": "no-such-program -x"},
            "no-such-program, which the archive is to go through, is not installed",
        ),
        ({"compress": "zip"}, "no compressor"),
    ):
        told = ask(tmp_path / "data", **asked)
        assert "msg" in told, asked
        assert re.search(message, told["msg"]), told["msg"]
    for given in ("cat", "exec gzip", "while read x; do echo; done", "(gzip)", "A=1 gzip", "true && cat"):
        assert ask(tmp_path / "data", local_filter=given)["local_filter"] == given
    (tmp_path / "bin").mkdir()
    for program in ("sh", "tar", "gzip"):
        (tmp_path / "bin" / program).symlink_to(f"/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    told = ask(tmp_path / "data", compress="gzip", encrypt="age:" + STRANGER)
    assert told["msg"].startswith("age, which the archive is to go through, is not installed on this host")


def test_what_is_planned_for_is_a_little_more_than_the_archive(tmp_path, age):
    (tmp_path / "data").mkdir()
    recipient = "age:" + age[0]
    for asked, planned, least in (
        ({}, MIB, MIB),
        ({"encrypt": recipient}, MIB + MIB // 100, MIB),
        ({"compress": "zstd"}, MIB + MIB // 100, 0),
        ({"compress": "zstd", "encrypt": recipient}, MIB + MIB // 100, 0),
        ({"local_filter": "gzip"}, MIB + MIB // 100, 0),
    ):
        told = ask(tmp_path / "data", **asked)
        assert (told["archive_bytes"], told["stream_bytes"], told["stream_bytes_least"]) == (MIB, planned, least)


def test_the_selection_is_measured_and_what_is_idle_is_told(tmp_path, monkeypatch):
    (tmp_path / "data/cache").mkdir(parents=True)
    (tmp_path / "data/cache/large").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "patterns").write_text("./cache\n/var/cache\n")
    # The wrapper's own directory is known by its lock.
    own = tmp_path / "data/ec2-backup-x"
    (own / "tmp").mkdir(parents=True)
    (own / "lock").touch()
    monkeypatch.setenv("TMPDIR", str(own / "tmp"))
    told = ask(tmp_path / "data", exclude_from=[str(tmp_path / "patterns")])
    assert told["archive_bytes"] == MIB
    assert told["selection"]["exclude"] == ["./cache", "/var/cache"]
    assert told["selection"]["anchored"] == ["./cache", "./ec2-backup-x"]
    (notice,) = told["notices"]
    assert notice.endswith(": /var/cache")


# ---- in mid-stream --------------------------------------------------------------------------------------------------

VOLUME = "vol-0123456789abcdef0"
SIZE = 48 * MIB


@needs_root
@pytest.mark.parametrize(("program", "words"), [("zstd", "zstd has had enough"), ("age", "age has had enough")])
def test_either_program_that_fails_in_mid_stream_fails_the_backup(tmp_path, monkeypatch, program, words):
    """In a shell's pipeline the compressor's status would be lost, and the volume hold half an archive."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(os.urandom(16 * MIB))
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / program, f"head -c 3000000; echo {words} >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    command = filters.compose("zstd", "age:" + STRANGER)
    with loop_device(tmp_path / "image", SIZE) as device:
        script = remote_command(write_script(VOLUME, SIZE, "writing", None, False, str(device), 1), [])
        with pytest.raises(StreamError, match=f"the local filter ended with status 1: {words}"):
            send(local_ssh(tmp_path), script, str(tmp_path / "source"), VOLUME, 1, command)


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "stages"),
    [
        ("gzip -dc", 1),
        ("age -d -i '/a | b'", 1),
        ("age -d -i '/a | b' | zstd -dc --long=28", 2),
        ("gpg --batch -q -d | lz4 -dc", 2),
        ("age -d -i $KEY | gzip -dc", 1),
        ("age -d -i /key -o /etc/passwd | gzip -dc", 1),
        ("id | gzip -dc", 1),
        ("'a | gzip -dc", 1),
    ],
)
def test_an_inverse_of_ours_is_run_as_the_commands_that_it_is_made_of(command, stages):
    assert len(filters.inverse_stages(command)) == stages
    assert " | ".join(filters.inverse_stages(command)) == command


@pytest.mark.parametrize("compress", ["", "zstd", "lz4"])
def test_a_key_that_does_not_fit_is_named_as_the_cause(tmp_path, age, compress):
    encrypted = run(filters.compose(compress, "age:" + STRANGER), DATA)
    inverse = filters.known_inverse(filters.compose(compress, "age:" + age[0]), str(age[1]))
    tar = Tar(list_arguments(), None, lambda line: None, subprocess.DEVNULL, inverse)
    with contextlib.suppress(BrokenPipeError):
        tar.sink.write(encrypted)
    with contextlib.suppress(BrokenPipeError):
        tar.sink.close()
    _status, trouble = tar.end()
    assert trouble is not None
    assert trouble.endswith("age: error: no identity matched any of the recipients")
    tar.kill()
    assert children() == []


def test_a_filter_that_complains_that_tar_left_the_padding_is_not_to_blame(tmp_path):
    """GNU tar stops at the archive's end; gpg ignores SIGPIPE, and so fails when it writes on."""
    (tmp_path / "source").mkdir()
    whole = subprocess.run(tar_arguments(str(tmp_path / "source"), "-"), check=True, stdout=subprocess.PIPE).stdout
    text = "import os, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
    text += "while data := sys.stdin.buffer.read(65536): os.write(1, data)"
    program = shlex.join([sys.executable, "-c", text])
    seen: list[str] = []
    tar = Tar(list_arguments(), None, seen.append, subprocess.DEVNULL, program)
    with contextlib.suppress(BrokenPipeError):
        tar.sink.write(whole)
    with contextlib.suppress(BrokenPipeError):
        tar.sink.close()
    assert tar.end() == (0, None), seen
    tar.kill()
