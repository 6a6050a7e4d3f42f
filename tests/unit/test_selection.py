# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is left out: each rule of docs/filters.md by a real tar, and measuring held to the archive that comes of it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive, selection
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.measure import measure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.mounts import parse_mounts
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment, unquote
from tests.unit.devices import MIB, needs_root

FILES = [
    ".cache/deep/file",
    ".profile",
    "a",
    "build/tmp/file",
    "build/tmpfile",
    "main.o",
    "tmp/file",
    "we*rd",
    "weird",
    "trees/.cache/file",
    "trees/build/tmp/file",
    "trees/main.o",
    "trees/new\nline",
    "trees/deep/er/main.o",
]


class Mount(NamedTuple):
    path: str
    kind: str


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of files, most of whose names some pattern is about."""
    top = tmp_path / "home" / "me"
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    return top


def saved(directory: Path, chosen: dict[str, Any]) -> set[str]:
    """Return the files (no directories) in the archive, and check that measuring saw the same."""
    words = selection.arguments(chosen)
    done = subprocess.run(
        archive.tar_arguments(str(directory), "-", selection=words),
        check=True,
        capture_output=True,
        env=clean_environment(os.environ),
    )
    assert done.stderr == b""
    measured, log = measure(str(directory), words)
    assert measured == len(done.stdout)
    assert log.findings() == ([], 0)
    listed = subprocess.run(
        ["tar", "-t", "--quoting-style=escape"], input=done.stdout, check=True, capture_output=True
    ).stdout.splitlines()
    names = [unquote(line).decode() for line in listed]
    assert "./" in names
    return {name[2:] for name in names if not name.endswith("/")}


def left_out(directory: Path, *patterns: str, **more: Any) -> set[str]:
    """Return which of the files are not saved."""
    chosen, idle = selection.select(str(directory), [pattern.format(home=directory) for pattern in patterns], **more)
    assert idle == []
    return set(FILES) - saved(directory, chosen)


def below(*tops: str) -> set[str]:
    return {name for name in FILES for top in tops if name == top or name.startswith(top + "/")}


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.o", {"main.o", "trees/main.o", "trees/deep/er/main.o"}),
        ("main.o", {"main.o", "trees/main.o", "trees/deep/er/main.o"}),
        ("**/main.o", {"main.o", "trees/main.o", "trees/deep/er/main.o"}),
        ("./*.o", {"main.o"}),
        ("./**/main.o", {"main.o", "trees/main.o", "trees/deep/er/main.o"}),
        ("/**/main.o", {"main.o", "trees/main.o", "trees/deep/er/main.o"}),
        ("trees/*.o", {"trees/main.o"}),
        ("./trees/*/main.o", set()),
        ("./trees/*/*/main.o", {"trees/deep/er/main.o"}),
        (".cache", below(".cache", "trees/.cache")),
        (".cache/", below(".cache", "trees/.cache")),
        ("./.cache", below(".cache")),
        ("{home}/.cache", below(".cache")),
        ("{home}/../me/.cache", SourceError),
        ("{home}/trees/.cache/", below("trees/.cache")),
        ("build/tmp", below("build/tmp", "trees/build/tmp")),
        ("tmp", below("build/tmp", "tmp", "trees/build/tmp")),
        ("./tmp/*", below("tmp")),
        ("./tmp/**", below("tmp")),
        ("*/.cache", below("trees/.cache")),  # not the one at the top, though tar calls that ./.cache
        ("?*/.cache", below("trees/.cache")),
        ("*/main.o", {"trees/main.o", "trees/deep/er/main.o"}),
        (".*", below(".cache", ".profile", "trees/.cache")),  # not ".", which is everything
        ("?", {"a"}),
        ("*.*", below(".cache", ".profile", "main.o", "trees/.cache", "trees/main.o", "trees/deep/er/main.o")),
        ("*", set(FILES)),
        ("./*", set(FILES)),
        ("we*rd", {"we*rd", "weird"}),
        (r"we\*rd", {"we*rd"}),
        ("we[*]rd", {"we*rd"}),
        ("we[!*]rd", {"weird"}),
        ("new\nline", {"trees/new\nline"}),
        ("MAIN.O", set()),
        (r"\.profile", {".profile"}),
    ],
)
def test_a_pattern_leaves_out_what_the_rules_say(home, pattern, files):
    if files is SourceError:
        with pytest.raises(SourceError, match=r"\.\."):
            left_out(home, pattern)
    else:
        assert left_out(home, pattern) == files


def test_a_path_with_wildcards_serves_many_directories(home):
    up = str(home.parent.parent)
    assert left_out(home, up + "/home/*/.cache", up + "/h[^x]me/m?/tmp") == below(".cache", "tmp")
    chosen, idle = selection.select(str(home), [up + "/home/you/.cache", "/var/cache", up + "/h[!o]me/me/tmp"])
    assert len(idle) == 3
    assert saved(home, chosen) == set(FILES)


def test_a_directory_behind_a_symbolic_link_is_known_by_both_names(home, tmp_path):
    (tmp_path / "link").symlink_to(home)
    for name in (home, tmp_path / "link"):
        chosen, idle = selection.select(str(tmp_path / "link"), [f"{name}/tmp"])
        assert idle == []
        assert set(FILES) - saved(tmp_path / "link", chosen) == below("tmp")


def test_a_home_directory_is_the_users(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    assert left_out(home, "~/tmp") == below("tmp")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "is no pattern"),
        ("/", "is no pattern"),
        ("//", "is no pattern"),
        ("a\0b", "is no pattern"),
        (".", "leaves out everything"),
        ("./", "leaves out everything"),
        ("/srv", "leaves out everything"),
        ("/srv/data", "leaves out everything"),
        ("/srv/*", "leaves out everything"),
        ("../x", r"holds '\.\.'"),
        ("a/**/b", r"'\*\*' where that cannot be"),
        ("a**", r"'\*\*' where that cannot be"),
        ("!kept", "begins with !"),
        ("sh:**/x", "begins with sh:"),
        ("[.]*", "matches '.', the directory itself"),
    ],
)
def test_a_pattern_that_would_be_misunderstood_is_refused_in_one_line(pattern, message):
    with pytest.raises(SourceError, match=message) as caught:
        selection.select("/srv/data", [pattern])
    assert "\n" not in str(caught.value)


def test_patterns_come_from_files_too(tmp_path):
    file = tmp_path / "patterns"
    file.write_text("# not saved\n\n  *.o  \r\n\\#odd\nb c\n")
    assert selection.read_patterns(str(file)) == ["*.o", "\\#odd", "b c"]
    file.write_bytes(b"\xff\n")
    with pytest.raises(SourceError, match="not UTF-8"):
        selection.read_patterns(str(file))
    with pytest.raises(SourceError, match="No such file"):
        selection.read_patterns(str(tmp_path / "absent"))


def test_more_patterns_than_tar_could_take_are_refused(home):
    with pytest.raises(SourceError, match="use fewer"):
        selection.select(str(home), (str(number).zfill(200) for number in range(2000)))
    left_out(home, *(str(number).zfill(200) for number in range(1200)))


def test_only_a_valid_tag_marks_a_cache(home):
    (home / "tmp/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# and more\n")
    (home / "build/CACHEDIR.TAG").write_text("mine\n")
    chosen, _idle = selection.select(str(home), caches=True)
    names = saved(home, chosen)
    assert set(FILES) - names == below("tmp")
    assert {"tmp/CACHEDIR.TAG", "build/CACHEDIR.TAG"} <= names


@needs_root
def test_what_is_mounted_below_can_be_left_out_and_its_mount_point_stays(home):
    (home / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", home / "mnt"], check=True)
    try:
        (home / "mnt/inside").write_text("x")
        assert "mnt/inside" in saved(home, {})
        chosen, _idle = selection.select(str(home), one_file_system=True)
        assert saved(home, chosen) == set(FILES)
    finally:
        subprocess.run(["umount", home / "mnt"], check=True)


def test_of_the_root_directory_the_kernels_filesystems_are_left_out():
    chosen, _idle = selection.select("/", mounts=[Mount("/proc", "proc"), Mount("/sys/fs/cgroup", "cgroup2")])
    assert chosen["left_out"] == ["/dev", "/proc", "/run", "/sys"]
    assert chosen["anchored"] == ["./dev/*", "./proc/*", "./run/*", "./sys/*"]


def test_a_chroots_own_proc_is_left_out_wherever_it_is():
    mounts = [Mount("/srv/root/proc", "proc"), Mount("/srv/ro*ot/sys", "sysfs"), Mount("/srv/data", "ext4")]
    assert selection.select("/srv", mounts=mounts)[0]["left_out"] == ["/srv/ro*ot/sys", "/srv/root/proc"]
    assert selection.select("/srv", mounts=mounts)[0]["anchored"] == [r"./ro\*ot/sys/*", "./root/proc/*"]
    assert selection.select("/", mounts=mounts)[0]["left_out"][4:] == ["/srv/ro*ot/sys", "/srv/root/proc"]
    assert selection.select("/srv/root/proc", mounts=mounts)[0]["left_out"] == []
    assert selection.select("/srv/roo", mounts=mounts)[0]["left_out"] == []


@needs_root
def test_a_real_proc_below_the_directory_is_seen_and_stays_out(home):
    (home / "proc").mkdir()
    subprocess.run(["mount", "-t", "proc", "none", home / "proc"], check=True)
    try:
        mounts = parse_mounts(Path("/proc/self/mountinfo").read_bytes())
        chosen, _idle = selection.select(str(home), mounts=mounts)
        assert chosen["left_out"] == [str(home / "proc")]
        assert saved(home, chosen) == set(FILES)
    finally:
        subprocess.run(["umount", home / "proc"], check=True)


def test_directories_of_the_run_are_left_out_where_they_are_below(home):
    (home / "we[i]rd dir").mkdir()
    (home / "we[i]rd dir/key").write_text("x")
    chosen = selection.leave_out({}, str(home), [str(home / "we[i]rd dir"), "/elsewhere", str(home), ""])
    assert chosen["anchored"] == [r"./we\[i]rd dir"]
    assert saved(home, chosen) == set(FILES)


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(os.urandom(5000))
        file.truncate(size)


@pytest.mark.parametrize(
    "patterns", [["*.img"], ["./vm"], ["./vm/*"], [".*"], ["vm/[ab].img"], ["link"], ["odd*"], ["other"], ["*"]]
)
def test_the_holes_of_what_is_left_out_do_not_make_the_measured_length_too_low(tmp_path, patterns):
    top = tmp_path / "top"
    for name in ("vm/a.img", "vm/b.img", ".hidden/c.img", "odd\nname.img", "odd\\name", "other"):
        sparse(top / name, 20 * MIB)
    os.link(top / "vm/a.img", top / "link")
    (top / "plain").write_bytes(os.urandom(MIB))
    words = selection.arguments(selection.select(str(top), patterns)[0])
    made = subprocess.run(archive.tar_arguments(str(top), "-", selection=words), check=True, stdout=subprocess.PIPE)
    measured, _log = measure(str(top), words)
    assert measured in (len(made.stdout), len(made.stdout) + MIB)


def fits(directory: Path, patterns: Iterable[str]) -> tuple[int, int]:
    words = selection.arguments(selection.select(str(directory), patterns)[0])
    made = subprocess.run(archive.tar_arguments(str(directory), "-", selection=words), check=True, capture_output=True)
    return measure(str(directory), words)[0], len(made.stdout)


def test_measured_is_what_is_sent_whatever_the_patterns_are(home):
    dice = random.Random(5)
    parts = ["*", ".*", "tmp", "trees", "*.o", "?", "build", "we[ri]*", "m*n.o"]
    for _ in range(40):
        patterns = [
            dice.choice(["", "./", f"{home}/"]) + "/".join(dice.choices(parts, k=dice.randint(1, 3)))
            for _ in range(dice.randint(1, 3))
        ]
        measured, sent = fits(home, patterns)
        assert measured == sent, patterns


@pytest.mark.parametrize(
    ("chosen", "recorded"),
    [
        ({}, None),
        (selection.select("/srv")[0], None),
        (
            selection.select("/srv", ["*.o"], True)[0],
            {
                "exclude": ["*.o"],
                "exclude_count": 1,
                "exclude_caches": True,
                "one_file_system": False,
                "left_out": [],
            },
        ),
    ],
)
def test_the_manifest_says_what_was_left_out(chosen, recorded):
    assert selection.record(chosen) == recorded


def test_of_very_many_patterns_the_manifest_has_as_many_as_fit(home):
    patterns: Sequence[str] = ["ü" * 100 + str(number) for number in range(100)]
    told = selection.record(selection.select(str(home), patterns)[0])
    assert told is not None
    assert 0 < len(told["exclude"]) < told["exclude_count"] == 100
    assert len(repr(told["exclude"]).encode("ascii", "backslashreplace")) < 2 * selection.RECORDED_LENGTH
