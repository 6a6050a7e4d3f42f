# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpacking: arguments, what tar's messages mean, which targets are refused, and honest archives come back whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment, readable, unquote
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.target import (
    check_target,
    leaves,
    links_that_leave,
    make_target,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import (
    compare_arguments,
    extract_arguments,
    list_arguments,
    member_name,
    member_names,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack_log import ExtractLog, extract_failure
from ansible_collections.ec2_backup.ebs.plugins.modules import target_info
from tests.unit.devices import hard_directory, needs_root, snapshot


def fed(*lines: str, members: tuple[str, ...] = (), confined: bool = False) -> ExtractLog:
    log = ExtractLog(members, confined)
    for line in lines:
        log.feed("tar: " + line)
    return log


def run(argv: list[str], stream: Path, directory: Path, log: ExtractLog | None = None) -> tuple[int, str, ExtractLog]:
    """Run tar on a stream as the restore does; return its status, its stdout, and what it said."""
    log = log or ExtractLog()
    with stream.open("rb") as file:
        done = subprocess.run(
            argv, check=False, stdin=file, capture_output=True, cwd=directory, env=clean_environment(os.environ)
        )
    for line in done.stderr.decode().splitlines():
        log.feed(line)
    return done.returncode, done.stdout.decode(), log


def archive_of(directory: Path, output: Path) -> Path:
    argv = archive.tar_arguments(str(directory), str(output))
    subprocess.run(argv, check=True, capture_output=True, env=clean_environment(os.environ))
    return output


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["etc/passwd", "/etc/passwd", "./etc/passwd", "etc//./passwd/", "//etc/passwd"])
def test_a_member_has_one_name_however_a_person_gives_it(given):
    assert member_name(given) == "etc/passwd"


def test_a_member_below_another_is_not_asked_for_twice():
    assert member_names(["a/b", "c", "a", "a/b/", "ab"]) == ["a", "ab", "c"]


def test_asking_for_the_top_asks_for_everything():
    assert member_names(["a", "."]) == []


def test_a_member_outside_of_the_archive_cannot_be_asked_for():
    with pytest.raises(TargetError, match=r"cannot hold '\.\.'"):
        extract_arguments(["../a"])


ODD = ["plain", "-rf", "[a]*?", "back\\slash", "tr\\tab", "new\nline", "co:lon", "schön", "not-utf8-\udcff", " blank "]


@pytest.mark.parametrize("top", [".", "under", "absolute"])
@pytest.mark.parametrize("name", ODD)
def test_one_member_comes_back_from_an_archive_of_any_tool(tmp_path, top, name):
    (tmp_path / "source/under").mkdir(parents=True)
    for other in ODD:
        (tmp_path / "source/under" / other).write_text(other, errors="surrogateescape")
    (tmp_path / "copy").mkdir()
    given = {".": ["-C", tmp_path / "source", "."], "under": ["-C", tmp_path / "source", "under"]}
    argv = given.get(top, ["-P", tmp_path / "source/under"])
    subprocess.run(["tar", "-cf", tmp_path / "out.tar", *argv], check=True)
    prefix = str(tmp_path / "source/under") if top == "absolute" else "under"

    members = [f"{prefix}/{name}"]
    log = ExtractLog(members)
    status, _, log = run(extract_arguments(members), tmp_path / "out.tar", tmp_path / "copy", log)

    assert extract_failure(status, log) is None, log.other
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [name]


def test_a_member_that_is_not_there_is_named(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/there").touch()
    stream = archive_of(tmp_path / "source", tmp_path / "out.tar")
    members = ["there", "not:th\\ere\n", "nor*"]
    status, _, log = run(extract_arguments(members), stream, tmp_path, ExtractLog(members))
    assert log.missing == ["nor*", "not:th\\ere\n"]
    told = extract_failure(status, log)
    assert told is not None
    assert told.startswith("not in the backup: nor* and not:th")
    assert "\n" not in told


def test_each_name_is_listed_in_one_line_that_a_terminal_can_be_shown(tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("new\nline", "schön", "esc\033[2J", "c1-\u009b", "not-utf8-\udcff", "co:lon", "back\\303\\266"):
        (tmp_path / "source" / name).touch()
    stream = archive_of(tmp_path / "source", tmp_path / "out.tar")
    status, listed, log = run(list_arguments(), stream, tmp_path)
    assert (status, log.other) == (0, [])
    shown = [readable(line) for line in listed.splitlines()]
    assert sorted(shown) == sorted(
        [
            "./",
            r"./back\\303\\266",
            r"./c1-\302\233",
            "./co:lon",
            r"./esc\033[2J",
            r"./new\nline",
            r"./not-utf8-\377",
            "./schön",
        ]
    )


def test_what_differs_from_the_source_is_one_line_each(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("same", "gone", "chan:ged\n"):
        (source / name).write_text(name)
    stream = archive_of(source, tmp_path / "out.tar")
    (source / "gone").unlink()
    (source / "chan:ged\n").write_text("another length")
    os.utime(source / "same", ns=(0, 0))
    status, told, log = run(compare_arguments(), stream, source)
    assert status == 1
    lines = [readable(line) for line in told.splitlines()]
    assert set(lines) == {"./same: Mod time differs", r"./chan:ged\n: Mod time differs", r"./chan:ged\n: Size differs"}
    assert log.other == ["./gone: Warning: Cannot stat: No such file or directory"]


# ---- what tar says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("./a: Cannot change ownership to uid 0, gid 0: Operation not permitted", "owner"),
        ("./a: Cannot change ownership to uid 0, gid 0: Invalid argument", "owner"),  # in a user namespace
        ("./a: Cannot mknod: Operation not permitted", "device"),
        ("setxattrat: Cannot set 'trusted.a' extended attribute for file './a': Operation not permitted", "xattr"),
        ("setxattrat: Cannot set 'user.a' extended attribute for file './a': Operation not supported", "xattr"),
        ("setfileconat: Cannot set SELinux context for file './a': Operation not supported", "label"),
        ("acl_set_file_at: Cannot set POSIX ACLs for file './a': Operation not supported", "acl"),
        ("acl_delete_def_file_at: Cannot drop default POSIX ACLs for file './a': Operation not supported", "acl"),
        (".: Cannot change mode to rwxr-xr-x: Operation not permitted", "mode"),
        (".: Cannot utime: Operation not permitted", "time"),
    ],
)
def test_what_a_user_may_not_have_is_counted_and_no_failure(line, kind):
    log = fed(line, "Exiting with failure status due to previous errors")
    assert log.denied == {kind: 1}
    assert extract_failure(2, log) is None


@pytest.mark.parametrize(
    "line",
    [
        "./a: Cannot open: Permission denied",
        "./a: Cannot mkdir: No space left on device",
        "./a: Cannot change ownership to uid 0, gid 0: Input/output error",
        "./a: Wrote only 4608 of 10240 bytes",
        "setxattrat: Cannot set 'user.a' extended attribute for file './a': No space left on device",
        "./a: Cannot hard link to './b': No such file or directory",
        "./a: Member name has changed its meaning in some later tar",
    ],
)
def test_what_is_lost_or_unknown_is_a_failure(line):
    told = extract_failure(2, fed(line, "./b: Cannot mknod: Operation not permitted"))
    assert told == f"tar ended with status 2: {line}"


def test_all_that_was_denied_is_told_in_one_line():
    lines = ["./a: Cannot change ownership to uid 0, gid 0: Operation not permitted"] * 12
    lines += ["./b: Cannot mknod: Operation not permitted"] * 2
    lines += ["setxattrat: Cannot set 'trusted.c' extended attribute for file './c': Operation not permitted"]
    log = fed(*lines)
    assert log.denied_count == 15
    assert log.denied_text(1000) == (
        "restored as uid 1000: 12 owners, 2 device nodes and 1 extended attribute could not be restored (run as root)"
    )
    assert fed().denied_text(1000) is None


def test_memory_is_bounded_and_counts_are_not():
    log = ExtractLog(["x"], limit=10)
    for number in range(5000):
        log.feed(f"tar: ./{number}: Cannot mknod: Operation not permitted")
        log.feed(f"tar: ./{number}: Cannot open: No space left on device")
        log.feed(f"tar: ./{number}: Not found in archive")
        log.feed(f"tar: ./../{number}: Member name contains '..'")
    assert (log.denied, log.unsafe_count) == ({"device": 5000}, 5000)
    kept = [log.denied_lines, log.other, log.unsafe, log.missing, log._not_found]
    assert max(map(len, kept)) <= 20


@pytest.mark.parametrize(
    ("lines", "confined"),
    [
        (["Removing leading `../' from member names", "../x: Member name contains '..'"], False),
        (
            [
                "Removing leading `/' from hard link targets",
                "./a: Cannot hard link to 'etc/passwd': No such file or directory",
            ],
            False,
        ),
        (["./a/x: Cannot open: Read-only file system"], True),
        (["./a/x: Cannot hard link to './a/y': Invalid cross-device link"], True),
        (["./a/x: Cannot change ownership to uid 0, gid 0: Read-only file system"], True),
    ],
)
def test_what_would_have_left_the_target_is_a_failure_that_says_so(lines, confined):
    told = extract_failure(2, fed(*lines, confined=confined))
    assert told is not None
    assert told.startswith("the archive tried to leave the target 1 time, which was refused; do not trust it: ")


def test_an_absolute_name_is_a_notice():
    log = fed("Removing leading `/' from member names")
    assert log.notices == ["Removing leading `/' from member names"]
    assert extract_failure(0, log) is None


def test_what_is_in_the_way_is_explained():
    told = extract_failure(2, fed("./a/x: Cannot open: File exists"))
    assert told is not None
    assert told.startswith("tar ended with status 2: ./a/x: Cannot open: File exists (what is there cannot be replaced")


def test_a_hard_link_without_its_other_name_says_what_to_ask_for():
    log = fed("./b: Cannot hard link to './a': No such file or directory", members=("b",))
    assert "ask for ./a as well" in str(extract_failure(2, log))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[:300_000], "Unexpected EOF in archive"),
        (lambda data: os.urandom(100_000), "This does not look like a tar archive"),
        (lambda data: b"", "This does not look like a tar archive"),
        (lambda data: b"\x1f\x8b\x08\0" + data, "Archive is compressed. Use -z option"),
        (lambda data: data[:1024] + os.urandom(400) + data[1424:], "Skipping to next header"),
    ],
)
def test_a_damaged_archive_is_called_so(tmp_path, damage, told):
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        for name in ("a", "b", "c"):
            member = tarfile.TarInfo(name)
            member.size = 300 if name == "a" else 500_000
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    stream = tmp_path / "damaged.tar"
    stream.write_bytes(damage((tmp_path / "out.tar").read_bytes()))
    (tmp_path / "copy").mkdir()
    status, _, log = run(extract_arguments(), stream, tmp_path / "copy")
    reason = extract_failure(status, log)
    assert reason is not None
    assert reason.startswith("the archive is damaged: ")
    assert told in log.damage


@pytest.mark.parametrize("damage", [lambda data: data[:1024], lambda data: bytes(20480)])
def test_tar_does_not_miss_the_end_of_an_archive_so_others_have_to(tmp_path, damage):
    (tmp_path / "a").write_text("a")
    subprocess.run(["tar", "-cf", "out.tar", "a", "a"], check=True, cwd=tmp_path)
    stream = tmp_path / "damaged.tar"
    stream.write_bytes(damage((tmp_path / "out.tar").read_bytes()))
    status, _, log = run(list_arguments(), stream, tmp_path)
    assert (status, extract_failure(status, log)) == (0, None)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (-9, "tar was killed by SIGKILL"),
        (2, "tar ended with status 2: it gave no reason"),
        (126, "tar ended with status 126: it gave no reason"),
    ],
)
def test_an_end_without_words_is_a_failure(status, told):
    assert extract_failure(status, fed()) == told
    assert extract_failure(status, fed(members=("a",))) == told


@pytest.mark.parametrize(
    "name",
    [b"plain", b"new\nline", b"back\\slash", b"\\n", b"\377\376", "schön".encode(), b"a:b", b"\a\b\f\r\t\v\0331"],
)
def test_a_quoted_name_is_read_back(tmp_path, name):
    log = subprocess.run(
        ["tar", "--create", "--no-unquote", "--file=/dev/null", b"./" + name],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        env=clean_environment(os.environ),
    ).stderr.decode("ascii")
    quoted = log.split("\n")[0][len("tar: ") : -len(": Cannot stat: No such file or directory")]
    assert unquote(quoted) == b"./" + name


# ---- the target -----------------------------------------------------------------------------------------------------


def test_a_target_is_an_empty_directory_or_one_that_can_be_made(tmp_path):
    target = tmp_path / "target"
    assert check_target(str(target)) == str(target)
    assert make_target(str(target)) is True
    assert target.stat().st_mode & 0o7777 == 0o700
    assert make_target(str(target)) is False
    assert check_target(str(target) + "/.") == str(target)


def test_a_relative_target_and_a_link_to_a_directory_are_told_by_their_real_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert check_target("link/../link") == str(tmp_path / "real")
    assert check_target("link/new") == str(tmp_path / "real/new")
    assert check_target("~/real") == str(tmp_path / "real")


def test_a_target_with_files_takes_force_and_says_which_files(tmp_path):
    for name in ("b", "a\n", "c", "d", "e"):
        (tmp_path / name).touch()
    with pytest.raises(TargetError) as refused:
        check_target(str(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path} is not empty (it holds a\\n, b and 3 more): use --force (ec2_backup_restore_force)"
    )
    assert check_target(str(tmp_path), force=True) == str(tmp_path)


def test_a_filesystem_that_was_just_made_counts_as_empty(tmp_path, monkeypatch):
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(TargetError, match="it holds lost"):
        check_target(str(tmp_path))
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    assert check_target(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "no target was given"),
        ("file", "is not a directory: name a directory"),
        ("file/below", "is not a directory"),
        ("no/where", "cannot be made: there is no"),
        ("dangling", "is a symbolic link to"),
        ("loop", "loop"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_one_line(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for force in (False, True):
        with pytest.raises(TargetError, match=told) as refused:
            check_target(name, force)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("link", "depth", "out"),
    [
        ("a", 0, False),
        ("a/b", 0, False),
        (".", 0, False),
        ("..", 0, True),
        ("../a", 1, False),
        ("../../a", 1, True),
        ("a/..", 0, True),  # a can be replaced by a link
        ("../a/../b", 3, True),
        ("/etc", 0, True),
        ("/", 5, True),
        ("/target", 0, False),
        ("//target/./a", 0, False),
        ("/target/../etc", 0, True),
        ("/targets", 0, True),
    ],
)
def test_a_link_leaves_if_it_could_ever_lead_out(link, depth, out):
    assert leaves(link, depth, "/target") is out


def test_links_that_leave_are_found_at_any_depth(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to("../..")
    (tmp_path / "a/b/out").symlink_to("../../../x")
    (tmp_path / "fine").symlink_to("a")
    (tmp_path / "abs").symlink_to("/etc")
    assert sorted(links_that_leave(str(tmp_path), 10)) == ["a/b/out", "abs"]
    assert len(links_that_leave(str(tmp_path), 1)) == 1
    (tmp_path / "abs").unlink()
    (tmp_path / "a/b/out").unlink()
    assert links_that_leave(str(tmp_path), 10) == []


# ---- the module -----------------------------------------------------------------------------------------------------


def module(**parameters: object) -> dict:
    """Run target_info in this process; return what it says."""
    said: list[str] = []

    class Ended(BaseException):
        pass

    def end(self, **result):
        said.append(json.dumps(result))
        raise Ended

    with pytest.MonkeyPatch.context() as patch, patch_module_args(parameters):
        patch.setattr(basic.AnsibleModule, "exit_json", end)
        patch.setattr(basic.AnsibleModule, "fail_json", end)
        with pytest.raises(Ended):
            target_info.main()
    told: dict = json.loads(said[0])
    return told


def test_the_module_tells_of_a_good_target(tmp_path):
    told = module(path=str(tmp_path / "new"), programs=["sh"])
    assert (told["path"], told["exists"], told["changed"]) == (str(tmp_path / "new"), False, False)
    assert told["host"] == os.uname().nodename
    assert module(path=str(tmp_path))["exists"] is True
    assert not (tmp_path / "new").exists()


def test_the_module_names_the_program_that_is_missing(tmp_path):
    told = module(path=str(tmp_path), programs=["sh", "no-such-program"])["msg"]
    assert told.startswith("no-such-program is needed to undo the backup's local filter")


def test_the_module_refuses_a_bad_target_and_a_bad_tar(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    assert "use --force" in module(path=str(tmp_path))["msg"]
    assert "path" in module(path=str(tmp_path), force=True)
    monkeypatch.setenv("PATH", "/nowhere")
    told = module(path=str(tmp_path), force=True)["msg"]
    assert "on the host that is restored to: there is no tar" in told


# ---- honest archives ------------------------------------------------------------------------------------------------


@needs_root
def test_what_is_restored_as_root_equals_the_source(tmp_path):
    source = hard_directory(tmp_path / "source")
    os.mknod(source / "device", 0o20666, os.makedev(1, 3))
    os.setxattr(source / "plain", "trusted.overlay.origin", b"\0\1")
    os.setxattr(source / "symlink", "trusted.kind", b"link", follow_symlinks=False)
    os.setxattr(source / "empty", "security.selinux", b"system_u:object_r:etc_t:s0\0")
    source.chmod(0o751)
    stream = archive_of(source, tmp_path / "out.tar")
    target = tmp_path / "target"
    make_target(str(target))

    status, _, log = run(extract_arguments(), stream, target)

    assert (status, log.other, log.notices, log.denied) == (0, [], [], {})
    assert snapshot(target) == snapshot(source)
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns


@needs_root
def test_a_restore_over_files_replaces_them_and_leaves_the_others(tmp_path):
    source = hard_directory(tmp_path / "source")
    stream = archive_of(source, tmp_path / "out.tar")
    target = tmp_path / "target"
    target.mkdir()
    assert run(extract_arguments(), stream, target)[0] == 0
    (target / "plain").write_text("changed")
    (target / "own").write_text("own")
    (target / "sticky").chmod(0o500)
    status, _, log = run(extract_arguments(), stream, target)
    assert extract_failure(status, log) is None
    assert (target / "own").read_text() == "own"
    (target / "own").unlink()
    assert snapshot(target) == snapshot(source)
