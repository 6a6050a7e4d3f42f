# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hostile archives: whatever one holds, and whatever an earlier one planted, what is outside of the target stays.

Each attack runs as root and as a plain user, against tar as a restore runs it, and against an extractor that trusts
everything, so that the walls are seen to hold without tar's own protections, and the attacks are seen to be real.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import pickle
import select
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import confine as confining
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import target as targets
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.confine import (
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    _Kernel,
    confine,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.mounts import parse_mounts
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.target import (
    check_target,
    links_that_leave,
    plan_extraction,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import extract_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack_log import ExtractLog, extract_failure
from tests.unit.devices import needs_root, snapshot

NOBODY = 65534
PR_SET_DUMPABLE = 4
ROOT = os.geteuid() == 0
UIDS = [pytest.param(0, id="as root", marks=needs_root), pytest.param(NOBODY if ROOT else os.geteuid(), id="as a user")]


def in_child(uid: int, function: Callable[[], Any]) -> Any:
    """Return what a function returns in a child that runs as ``uid``: namespaces and ids end with it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer: tuple[Any, str | None] = (None, "the child ended too early")
        try:
            if uid != os.geteuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                # As after any exec; or /proc/self would stay root's.
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            answer = (function(), None)
        except BaseException:
            answer = (None, traceback.format_exc())
        finally:
            with open(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    result, trouble = pickle.loads(data)
    assert trouble is None, trouble
    return result


class Place:
    """A world with a target in it, a canary beside it, and a hostile archive.

    What ``add`` is given goes into the archive; ``plant`` is what an earlier restore, or a person, left in the target.
    """

    def __init__(self, top: Path) -> None:
        self.world = top / "world"
        self.target, self.canary = self.world / "target", self.world / "canary"
        self.archive = top / "hostile.tar"
        (self.canary / "directory").mkdir(parents=True)
        (self.canary / "directory/file").write_text("within")
        (self.canary / "file").write_text("content")
        (self.canary / "file").chmod(0o640)
        (self.canary / "program").write_text("#!/bin/sh\n")
        (self.canary / "program").chmod(0o755)
        (self.canary / "link").symlink_to("file")
        os.mkfifo(self.canary / "fifo")
        os.setxattr(self.canary / "file", "user.kind", b"canary")
        self.target.mkdir()
        for path in (*self.canary.rglob("*"), self.canary, self.target, self.world):
            os.utime(path, ns=(10**18 + 1, 10**18 + 1), follow_symlinks=False)
        self.tar: tarfile.TarFile | None = None

    def give(self, uid: int) -> None:
        """Let all of it belong to a user, who may then do with it what is only forbidden to the restore."""
        for path in (*self.world.parent.rglob("*"), self.world.parent):
            os.chown(path, uid, uid, follow_symlinks=False)

    def add(self, name: str, data: bytes | None = b"evil", link: str = "", kind: bytes = b"0", **more: Any) -> None:
        assert self.tar is not None
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mtime = kind, link, 1
        member.mode = 0o777
        member.uid = member.gid = os.geteuid()
        for key, value in more.items():
            setattr(member, key, value)
        if kind != tarfile.REGTYPE:
            data = b""
        member.size = len(data or b"")
        self.tar.addfile(member, io.BytesIO(data or b""))

    def directory(self, name: str, **more: Any) -> None:
        self.add(name, kind=tarfile.DIRTYPE, **more)

    def symlink(self, name: str, to: str | Path) -> None:
        self.add(name, link=str(to), kind=tarfile.SYMTYPE)

    def hardlink(self, name: str, to: str | Path) -> None:
        self.add(name, link=str(to), kind=tarfile.LNKTYPE)

    def plant(self, name: str, to: str | Path) -> None:
        (self.target / name).symlink_to(to)

    def build(self, attack: Callable[[Place], None]) -> None:
        with tarfile.open(self.archive, "w", format=tarfile.PAX_FORMAT) as self.tar:
            attack(self)

    def outside(self) -> dict[bytes, Any]:
        """Return all there is outside of the target: bytes, names, modes, owners, times, links, attributes."""
        told = snapshot(self.world)
        kept = {name: what for name, what in told.items() if name.split(b"/")[1:2] != [b"target"]}
        kept[b"mtime"] = self.world.stat().st_mtime_ns
        kept[b"links"] = [path.lstat().st_nlink for path in self.canary.glob("file")]
        return kept


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="hostile-") as directory:
        os.chmod(directory, 0o755)
        (Path(directory) / "top").mkdir()
        yield Place(Path(directory) / "top")


# ---- the attacks ----------------------------------------------------------------------------------------------------

ON_EMPTY: list[Callable[[Place], None]] = []
ON_PLANTED: list[Callable[[Place], None]] = []


def on_empty(attack: Callable[[Place], None]) -> Callable[[Place], None]:
    ON_EMPTY.append(attack)
    return attack


def on_planted(attack: Callable[[Place], None]) -> Callable[[Place], None]:
    """The target holds something already, and the restore is forced."""
    ON_PLANTED.append(attack)
    return attack


@on_empty
def dots(place: Place) -> None:
    place.add("../canary/new")
    place.add("../new")
    place.add("./a/../../canary/file")
    place.directory("..")
    place.directory("../canary/directory/..", mode=0o700)


@on_empty
def absolute_names(place: Place) -> None:
    place.add(f"{place.canary}/file")
    place.add(f"//{place.canary}/new")
    place.directory(f"{place.canary}/directory", mode=0)


@on_empty
def name_in_an_extended_header(place: Place) -> None:
    place.add("harmless", pax_headers={"path": "../canary/file"})
    place.add("harmless too", pax_headers={"path": str(place.canary / "new")})
    place.symlink("link", "here")
    place.add("x", link="here", kind=tarfile.SYMTYPE, pax_headers={"linkpath": str(place.canary)})
    place.add("x/new")


@on_empty
def symlink_then_through_it(place: Place) -> None:
    place.symlink("./link", place.canary)
    place.add("./link/file")
    place.add("./link/new")
    place.directory("./link/directory", mode=0o700)
    place.directory("./link/", mode=0o700)


@on_empty
def symlink_to_the_parent(place: Place) -> None:
    place.symlink("./up", "..")
    place.add("./up/new")
    place.add("./up/canary/file")


@on_empty
def chain_of_symlinks(place: Place) -> None:
    place.directory("d")
    place.symlink("d/here", ".")
    place.symlink("here", "d/here")
    place.symlink("up", "here/..")
    place.symlink("out", "up/..")
    place.symlink("canary", "out/canary")
    place.add("canary/file")
    place.add("out/canary/new")


@on_empty
def directory_replaced_by_a_symlink(place: Place) -> None:
    place.directory("d", mode=0o700)
    place.symlink("d", place.canary)
    place.add("d/new")
    place.directory("d/directory", mode=0o700, pax_headers={"SCHILY.xattr.user.evil": "1"})
    # Its mode and time are set at the very end, when the symbolic link is there.
    place.directory("e", mode=0o711, pax_headers={"SCHILY.xattr.user.evil": "1"})
    place.symlink("e/inner", place.canary)
    place.add("e/inner")
    place.symlink("e", place.canary)


@on_empty
def file_replaced_by_a_symlink(place: Place) -> None:
    place.add("f")
    place.symlink("f", place.canary / "file")
    place.add("f", pax_headers={"SCHILY.xattr.user.evil": "1", "mtime": "5.5"}, mode=0o777)
    place.symlink("g", place.canary / "file")
    place.add("g", pax_headers={"SCHILY.acl.access": "user::rwx\nuser:7:rwx\ngroup::rwx\nmask::rwx\nother::rwx\n"})


@on_empty
def symlink_in_place_of_the_target(place: Place) -> None:
    place.symlink("./", place.canary)
    place.symlink(".", place.canary)
    place.add("./file")


@on_empty
def hard_link_to_the_outside(place: Place) -> None:
    place.hardlink("absolute", place.canary / "file")
    place.add("absolute", mode=0o600)
    place.hardlink("relative", "../canary/file")
    place.add("relative", mode=0o600)
    place.symlink("link", place.canary)
    place.hardlink("through", "link/file")
    place.hardlink("program", place.canary / "program")
    place.add("program", mode=0)


@on_empty
def hard_link_to_a_symlink(place: Place) -> None:
    place.symlink("link", place.canary)
    place.hardlink("twin", "link")
    place.add("twin/new")
    place.symlink("file", place.canary / "file")
    place.hardlink("file twin", "file")
    place.add("file twin")


@on_empty
def directory_of_incremental_archives(place: Place) -> None:
    listing = b"R../canary/file\0Tstolen\0Nfile\0\0"
    place.directory(".", pax_headers={"GNU.dumpdir": listing.decode()})
    place.add("d/", kind=b"D", data=listing)


@on_empty
def odd_names(place: Place) -> None:
    place.add("new\n../canary/file")
    place.add("\033[2J\033]0;evil\a")
    place.add("tar: ./a: Cannot mknod: Operation not permitted\ntar")
    place.add("x" * 255)
    place.add("/".join(["deep" * 50] * 15) + "/file")


@on_empty
def names_like_options(place: Place) -> None:
    place.add(f"--to-command=touch {place.canary}/new")
    place.add("--checkpoint=1")
    place.add(f"--checkpoint-action=exec=touch {place.canary}/new")
    place.add("-P")
    place.add("--absolute-names")


@on_empty
def device_then_a_file_of_its_name(place: Place) -> None:
    # Major 1, minor 1 is /dev/mem; the FIFO has no reader.
    place.add("device", kind=tarfile.CHRTYPE, devmajor=1, devminor=1)
    place.add("device", b"written")
    place.add("fifo", kind=tarfile.FIFOTYPE)
    place.add("fifo", b"written")
    place.add("linked", kind=tarfile.FIFOTYPE)
    place.hardlink("twin", "linked")
    place.add("twin", b"written")


@on_empty
def programs_with_rights(place: Place) -> None:
    place.add("setuid", mode=0o6755, uid=0, gid=0, pax_headers={"SCHILY.xattr.security.capability": "\x01\0\0\x02"})
    place.directory("setgid", mode=0o6777, uid=0, gid=0)


@on_planted
def link_to_a_directory(place: Place) -> None:  # CVE-2025-45582
    place.plant("link", place.canary)
    place.add("./link/file")
    place.add("./link/new")


@on_planted
def relative_link(place: Place) -> None:
    place.plant("link", "../canary")
    place.add("link/directory/file")


@on_planted
def link_whose_way_is_replaced(place: Place) -> None:
    (place.target / "d").mkdir()
    place.plant("link", "d/../../canary")
    place.plant("inside", "d/../canary")  # leads nowhere, until d leads one up
    place.symlink("d", ".")
    place.add("inside/new")
    place.add("link/new")


@on_planted
def metadata_of_a_directory(place: Place) -> None:
    place.plant("link", place.canary)
    place.directory("link/directory", mode=0o700, pax_headers={"SCHILY.xattr.user.evil": "1"})
    place.directory("link/directory/new")


@on_planted
def directory_in_place_of_a_link(place: Place) -> None:
    place.plant("link", place.canary)
    place.directory("link/directory", mode=0o700)
    place.directory("link/", mode=0o711)
    place.add("link/file")


@on_planted
def something_else_of_its_name(place: Place) -> None:
    place.plant("link", place.canary)
    place.symlink("link/file", "elsewhere")
    place.add("link/link", kind=tarfile.FIFOTYPE)
    place.directory("link/fifo")
    place.symlink("link/new", "elsewhere")


@on_planted
def hard_links_across(place: Place) -> None:
    place.plant("link", place.canary)
    place.hardlink("stolen", "link/file")
    place.add("mine")
    place.hardlink("link/planted", "mine")


@on_planted
def file_that_is_a_link(place: Place) -> None:
    place.plant("file", place.canary / "file")
    place.plant("new", place.canary / "new")
    place.add("file", mode=0o600, pax_headers={"SCHILY.xattr.user.evil": "1"})
    place.add("new")


@on_planted
def file_that_shares_its_inode(place: Place) -> None:
    os.link(place.canary / "program", place.target / "program")
    place.add("program", b"evil", mode=0o777)


@on_planted
def way_out_through_proc(place: Place) -> None:
    """Other processes' roots are in a namespace without walls."""
    place.plant("self", f"/proc/{os.getpid()}/root{place.canary}")
    place.plant("cwd", f"/proc/{os.getpid()}/cwd")
    os.chdir(place.canary)
    place.add("self/file")
    place.add("cwd/new")


def restore(place: Place, force: bool, confined: bool | None = None) -> dict[str, Any]:
    """Unpack as a restore does; ``confined`` overrides its plan."""
    plan = plan_extraction(check_target(str(place.target), force), force)
    confined = plan if confined is None else confined
    log = ExtractLog(confined=confined)
    with place.archive.open("rb") as stream:
        done = subprocess.run(
            extract_arguments(),
            check=False,
            stdin=stream,
            capture_output=True,
            cwd=place.target,
            env=clean_environment(os.environ),
            preexec_fn=confine(str(place.target)) if confined else None,
        )
    lines = done.stderr.decode("ascii").splitlines()
    for line in lines:
        log.feed(line)
    return {
        "status": done.returncode,
        "confined": confined,
        "failure": extract_failure(done.returncode, log),
        "denied": log.denied,
        "unsafe": log.unsafe_count,
        "other": log.other,
        "lines": lines,
    }


def trust_everything(place: Place, confined: bool) -> None:
    """Unpack with an extractor that has no protections at all, in this process."""
    if confined:
        confine(str(place.target))()
    with tarfile.open(place.archive) as tar:
        if hasattr(tarfile, "fully_trusted_filter"):  # Python 3.11.4; before, no other way was known
            tar.extraction_filter = tarfile.fully_trusted_filter
        for member in tar:
            if stat.S_ISFIFO(_mode(place.target / member.name)):
                continue  # would wait for a reader
            with contextlib.suppress(OSError, KeyError, tarfile.TarError):
                tar.extract(member, place.target)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def attacked(place: Place, uid: int, attack: Callable[[Place], None], work: Callable[[], Any]) -> Any:
    """Run an attack as ``uid``; return what ``work`` returns, and whether the outside changed."""
    place.give(uid)

    def act() -> Any:
        place.build(attack)
        before = place.outside()
        result = work()
        return before, result

    before, result = in_child(uid, act)
    return result, place.outside() != before


def named(attacks: list[Callable[[Place], None]]) -> list[Any]:
    return [pytest.param(attack, id=attack.__name__) for attack in attacks]


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("attack", named(ON_EMPTY))
def test_no_archive_gets_out_of_an_empty_target(place, uid, attack):
    told, changed = attacked(place, uid, attack, lambda: restore(place, force=False))
    assert not changed
    assert told["status"] in (0, 2)
    assert told["confined"] is (uid == 0)


@needs_root
@pytest.mark.parametrize("attack", named(ON_EMPTY))
def test_nor_unconfined_where_root_cannot_confine_it(place, attack):
    _, changed = attacked(place, 0, attack, lambda: restore(place, force=False, confined=False))
    assert not changed


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("attack", named(ON_PLANTED))
def test_no_archive_gets_out_over_what_was_planted(place, uid, attack):
    told, changed = attacked(place, uid, attack, lambda: restore(place, force=True))
    assert not changed
    assert told["status"] in (0, 2)
    assert told["confined"] is (uid == 0 or attack is not file_that_shares_its_inode)


@pytest.mark.parametrize("modern", [True, False], ids=["at once", "mount by mount"])
@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("attack", named([*ON_EMPTY, *ON_PLANTED]))
def test_confinement_holds_with_an_extractor_that_trusts_everything(place, uid, attack, modern, monkeypatch):
    if attack is file_that_shares_its_inode:
        return  # the inode is in the target: what overwrites it in place needs no way out
    if not modern:
        monkeypatch.setattr(confining, "_MODERN", ())
    _, changed = attacked(place, uid, attack, lambda: trust_everything(place, confined=True))
    assert not changed


NOT_FOR_PYTHON = [  # harmless by themselves, or it cannot put a symbolic link in the place of a directory
    directory_of_incremental_archives,
    directory_replaced_by_a_symlink,
    symlink_in_place_of_the_target,
    odd_names,
    names_like_options,
    device_then_a_file_of_its_name,
    programs_with_rights,
]


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("attack", named([a for a in [*ON_EMPTY, *ON_PLANTED] if a not in NOT_FOR_PYTHON]))
def test_unconfined_such_an_extractor_lets_it_out(place, uid, attack):
    _, changed = attacked(place, uid, attack, lambda: trust_everything(place, confined=False))
    assert changed


@pytest.mark.parametrize("uid", UIDS)
def test_a_link_that_an_earlier_restore_made_leads_nowhere(place, uid):
    """Both steps by tar: it makes the link, as it should, and the second archive goes through it."""

    def first(place: Place) -> None:
        place.symlink("./link", place.canary)

    def second(place: Place) -> None:
        place.add("./link/file")
        place.add("./link/new")

    def work() -> tuple[Any, Any]:
        honest = restore(place, force=False)
        place.build(second)
        return honest, restore(place, force=True)

    (honest, hostile), changed = attacked(place, uid, first, work)
    assert (honest["status"], honest["failure"]) == (0, None)
    assert not changed
    assert hostile["failure"].startswith("the archive tried to leave the target 1 time, which was refused")


# ---- what tar makes of some of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", UIDS)
def test_what_was_refused_is_told_as_an_attempt_to_leave(place, uid):
    told, _ = attacked(place, uid, dots, lambda: restore(place, force=False))
    assert told["unsafe"] == 5
    assert "tried to leave the target 5 times" in told["failure"]


@pytest.mark.parametrize("uid", UIDS)
def test_a_file_takes_the_place_of_a_device(place, uid):
    attacked(place, uid, device_then_a_file_of_its_name, lambda: restore(place, force=False))
    assert {path.name: path.is_file() for path in place.target.iterdir()} == {
        "device": True,
        "fifo": True,
        "linked": False,
        "twin": True,
    }


@pytest.mark.parametrize("uid", UIDS)
def test_no_name_can_pass_for_a_message(place, uid):
    told, _ = attacked(place, uid, odd_names, lambda: restore(place, force=False))
    assert (told["status"], told["denied"], told["failure"]) == (0, {}, None)
    assert all(line.isprintable() for line in told["lines"])


def test_a_users_restore_gives_rights_of_that_user_at_most(place):
    uid = NOBODY if ROOT else os.geteuid()
    told, _ = attacked(place, uid, programs_with_rights, lambda: restore(place, force=False))
    assert told["failure"] is None
    assert told["denied"]["owner"] == 2
    assert {path.stat().st_uid for path in place.target.iterdir()} == {uid}


@needs_root
@pytest.mark.parametrize("confined", [False, True])
def test_what_a_user_may_not_have_is_the_same_when_confined(place, confined):
    """The more that is lost to the user namespace is why a user is only confined where there is need."""

    def honest(place: Place) -> None:
        place.add("owner", uid=0, gid=0)
        place.add("device", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)
        place.add("xattr", pax_headers={"SCHILY.xattr.trusted.a": "1", "SCHILY.xattr.user.b": "2"})
        place.add("setuid", mode=0o4755)
        acl = "user::rw-\nuser:7:r--\ngroup::r--\nmask::r--\nother::---\n"
        place.add("acl", pax_headers={"SCHILY.acl.access": acl})

    told, changed = attacked(place, NOBODY, honest, lambda: restore(place, force=False, confined=confined))
    assert told["failure"] is None
    assert told["denied"] == {"owner": 1, "device": 1, "xattr": 1, **({"acl": 1} if confined else {})}
    assert not changed
    assert os.getxattr(place.target / "xattr", "user.b") == b"2"
    assert (place.target / "setuid").stat().st_mode & 0o7777 == 0o4755


# ---- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", UIDS)
def test_unconfined_a_target_whose_links_lead_out_is_refused(place, uid, monkeypatch):
    monkeypatch.setattr(targets, "probe_confinement", lambda target: False)
    place.plant("fine", "here")
    place.give(uid)
    target = str(place.target)
    assert in_child(uid, lambda: plan_extraction(target, force=True)) is False
    place.plant("link\n", place.canary)

    def refused() -> str:
        with pytest.raises(TargetError) as refusal:
            plan_extraction(target, force=True)
        return str(refusal.value)

    told = in_child(uid, refused)
    assert "(link\\n)" in told
    assert "restore into an empty directory" in told


def test_a_directory_that_cannot_be_searched_counts_as_a_way_out(place):
    uid = NOBODY if ROOT else os.geteuid()
    (place.target / "closed").mkdir()
    (place.target / "closed/link").symlink_to(place.canary)
    place.give(uid)
    (place.target / "closed").chmod(0o300)
    try:
        assert in_child(uid, lambda: links_that_leave(str(place.target), 3)) == ["closed"]
    finally:
        (place.target / "closed").chmod(0o700)


@needs_root
def test_root_is_confined_before_the_target_is_made(place):
    assert plan_extraction(str(place.target / "new")) is True


def test_nothing_is_outside_of_the_root_directory():
    assert plan_extraction("/", force=True) is False


@needs_root
def test_root_without_the_right_to_mount_goes_on_unconfined(place):
    code = "import sys; from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import target\n"
    code += "print(target.probe_confinement(sys.argv[1]), target.plan_extraction(sys.argv[1]))"
    argv = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]
    done = subprocess.run([*argv, str(place.target)], check=True, capture_output=True, text=True)
    assert done.stdout == "False False\n"


# ---- confinement ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["at once", "mount by mount"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(confining, "_MODERN", ())


def shell(place: Place, text: str, **more: Any) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "-c", text],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=confine(str(place.target)),
        **more,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("uid", UIDS)
def test_pipes_work_when_confined_and_devices_do_not(place, uid):
    place.give(uid)
    text = "cat; pwd; echo said >&2; touch here; : >/dev/null"
    status, out, error = in_child(uid, lambda: shell(place, text, input="given\n"))
    assert status != 0
    assert out == f"given\n{place.target}\n"
    assert error.startswith("said\n")
    assert "/dev/null" in error
    assert (place.target / "here").exists()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("uid", UIDS)
def test_metadata_is_read_only_when_confined(place, uid):
    place.give(uid)
    before = place.outside()
    commands = ["chmod 0 {}", "touch {}", "setfattr -n user.a -v b {}", "rm -r {}", "mv {} {}2", "ln {} here"]
    for command in commands:
        path = place.canary / "file"
        text = command.format(path, path)
        status, _, error = in_child(uid, functools.partial(shell, place, text))
        assert (status != 0, "Read-only" in error or "cross-device" in error) == (True, True), error
    assert place.outside() == before


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("uid", UIDS)
def test_a_process_sees_of_proc_only_itself(place, uid):
    place.give(uid)
    text = "ls /proc; test -e /proc/self/fd/0 && echo fd"
    assert in_child(uid, lambda: shell(place, text))[1] == "self\nfd\n"


@needs_root
@pytest.mark.usefixtures("either_way")
def test_what_is_mounted_in_the_target_stays_as_it_is(place):
    kernel = _Kernel()
    for name in ("a b", "read-only", "proc"):
        (place.target / name).mkdir()

    def work() -> tuple[int, str, str]:
        kernel.unshare(CLONE_NEWNS)
        kernel.mount(None, "/", None, MS_REC | MS_PRIVATE)
        kernel.mount("none", str(place.target / "a b"), "tmpfs", 0)
        kernel.mount("none", str(place.target / "read-only"), "tmpfs", MS_RDONLY)
        kernel.mount("none", str(place.target / "proc"), "proc", 0)
        return shell(place, "touch 'a b/x' && ls 'a b'; touch read-only/x || echo no; ls proc")

    assert in_child(0, work)[1] == "x\nno\n"


@pytest.mark.parametrize("uid", UIDS)
def test_what_cannot_be_confined_does_not_run(place, uid):
    place.give(uid)
    place.target.rmdir()
    status, out, error = in_child(uid, lambda: shell(place, "echo ran"))
    assert (status, out) == (126, "")
    assert error.startswith(f"tar: cannot be confined to {place.target}: ")
    assert len(error.splitlines()) == 1
    log = ExtractLog()
    log.feed(error.strip())
    assert extract_failure(126, log) == "tar ended with status 126: " + error.strip()[5:]


@pytest.mark.parametrize("uid", UIDS)
def test_a_confined_process_still_dies_with_its_parent(place, uid):
    place.give(uid)

    def call() -> None:
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG, as Child does
        confine(str(place.target))()

    def work() -> int:
        return subprocess.Popen(["sleep", "300"], preexec_fn=call).pid

    # Both are ours to see until they are gone: the child ends when in_child has its answer.
    reader, writer = os.pipe()

    def hold() -> int:
        os.close(writer)
        return work()

    pid = in_child(uid, hold)
    os.close(reader)
    os.close(writer)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 20)[0], "it outlived its parent"
    finally:
        os.close(descriptor)


def test_mounts_are_read_with_blanks_in_their_names():
    text = rb"""273 272 254:0 / / ro,nodev,relatime - ext4 /dev/vda rw,discard
295 273 254:0 /a\040b /mnt/a\040b\134 rw,noatime shared:1 master:2 - fuse.x-y src\040x rw
"""
    mounts = parse_mounts(text)
    assert [(mount.number, mount.path, mount.kind) for mount in mounts] == [
        (273, "/", "ext4"),
        (295, "/mnt/a b\\", "fuse.x-y"),
    ]
    assert mounts[1].options == ["rw", "noatime"]
