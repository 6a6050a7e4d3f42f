# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory against its archive, by a real tar: every change of it is told, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.compare import MAX_DIFFERENCES, Comparison
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import compare_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack_log import ExtractLog
from tests.unit.devices import hard_directory, needs_root

OPTIONS = ["--verbose", "--block-number"]  # what Comparison.feed needs to tell names from differences


def pack(directory: Path, output: Path) -> Path:
    argv = archive.tar_arguments(str(directory), str(output))
    subprocess.run(argv, check=True, capture_output=True, env=clean_environment(os.environ))
    return output


def compare(directory: Path, stream: Path) -> Comparison:
    """Compare as the module does; everything that tar says must have been understood."""
    comparison, log = Comparison(), ExtractLog()
    argv = compare_arguments()
    argv[1:1] = OPTIONS
    with stream.open("rb") as file:
        done = subprocess.run(
            argv, check=False, stdin=file, capture_output=True, cwd=directory, env=clean_environment(os.environ)
        )
    for line in done.stdout.decode().splitlines():
        comparison.feed(line)
    for line in done.stderr.decode().splitlines():
        if not comparison.feed_error(line):
            log.feed(line)
    assert (log.other, log.damage) == ([], [])
    assert done.returncode in (0, 1, 2)
    comparison.look_for_new(str(directory))
    assert comparison.count == len(comparison.differences)
    return comparison


@pytest.fixture
def source(tmp_path):
    top = tmp_path / "source"
    (top / "directory/below").mkdir(parents=True)
    (top / "file").write_text("content")
    (top / "directory/file").write_text("content")
    (top / "other").write_text("content")
    os.link(top / "other", top / "second name")
    (top / "link").symlink_to("file")
    os.mkfifo(top / "fifo")
    return top


@needs_root
def test_a_directory_that_has_not_changed_does_not_differ(tmp_path):
    source = hard_directory(tmp_path / "source")
    os.mknod(source / "device", 0o20666, os.makedev(1, 3))
    found = compare(source, pack(source, tmp_path / "out.tar"))
    assert (found.differences, found.count) == ([], 0)
    entries = sum(len(directories) + len(files) for _, directories, files in os.walk(os.fsencode(source)))
    assert found.members == entries  # with the top, and without the socket


def keep_time(path: Path, change: Callable[[], object]) -> None:
    before = path.lstat().st_mtime_ns
    change()
    os.utime(path, ns=(before, before), follow_symlinks=False)


def retype(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "content": (
        lambda top: keep_time(top / "file", lambda: (top / "file").write_text("CONTENT")),
        {"./file: Contents differ"},
    ),
    "size": (
        lambda top: keep_time(top / "file", lambda: (top / "file").write_text("longer content")),
        {"./file: Size differs"},
    ),
    "mode": (lambda top: (top / "file").chmod(0o4711), {"./file: Mode differs"}),
    "mode of a directory": (lambda top: (top / "directory").chmod(0o1777), {"./directory: Mode differs"}),
    "time": (lambda top: os.utime(top / "file", ns=(0, 0)), {"./file: Mod time differs"}),
    "link": (
        lambda top: keep_time(top / "link", lambda: retype(top / "link", lambda path: path.symlink_to("other"))),
        {"./link: Symlink differs"},
    ),
    "file to directory": (lambda top: retype(top / "file", Path.mkdir), {"./file: File type differs"}),
    "file to fifo": (lambda top: retype(top / "file", os.mkfifo), {"./file: File type differs"}),
    "file to link": (
        lambda top: retype(top / "file", lambda path: path.symlink_to("other")),
        {"./file: File type differs"},
    ),
    "link to directory": (lambda top: retype(top / "link", Path.mkdir), {"./link: is not a symbolic link any more"}),
    "link to file": (lambda top: retype(top / "link", Path.touch), {"./link: is not a symbolic link any more"}),
    "fifo to file": (lambda top: retype(top / "fifo", Path.touch), {"./fifo: File type differs"}),
    "directory to file": (
        lambda top: retype(top / "directory", Path.touch),
        {
            "./directory: File type differs",
            "./directory/below: Not a directory",
            "./directory/file: Not a directory",
        },
    ),
    "directory to dangling link": (
        lambda top: retype(top / "directory", lambda path: path.symlink_to("/no/where")),
        {
            "./directory: File type differs",
            "./directory/below: is not there any more",
            "./directory/file: is not there any more",
        },
    ),
    "hard link": (
        lambda top: retype(top / "second name", lambda path: shutil.copy2(top / "other", path)),
        {"./second name: Not linked to ./other"},
    ),
    "file removed": (lambda top: (top / "directory/file").unlink(), {"./directory/file: is not there any more"}),
    "link removed": (lambda top: (top / "link").unlink(), {"./link: is not there any more"}),
    "fifo removed": (lambda top: (top / "fifo").unlink(), {"./fifo: is not there any more"}),
    "directory removed": (
        lambda top: shutil.rmtree(top / "directory"),
        {
            "./directory: is not there any more",
            "./directory/below: is not there any more",
            "./directory/file: is not there any more",
        },
    ),
    "file added": (lambda top: (top / "directory/below/new").touch(), {"./directory/below/new: is not in the backup"}),
    "link added": (lambda top: (top / "new").symlink_to("file"), {"./new: is not in the backup"}),
    "directory added": (
        lambda top: (top / "new/below").mkdir(parents=True),
        {"./new: is not in the backup", "./new/below: is not in the backup"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_and_nothing_else(tmp_path, source, name):
    change, expected = CHANGES[name]
    stream = pack(source, tmp_path / "out.tar")
    change(source)
    found = compare(source, stream)
    # Whoever replaces a file changes its time, mode and size, too.
    secondary = ("Mod time differs", "Mode differs", "Size differs", "Uid differs")
    assert expected <= set(found.differences)
    names = {text.rsplit(": ", 1)[0] for text in expected}
    for text in set(found.differences) - expected:
        assert text.endswith(secondary)
        assert text.rsplit(": ", 1)[0] in names


@needs_root
def test_a_change_of_owner_and_of_device_is_told(tmp_path, source):
    os.mknod(source / "device", 0o20666, os.makedev(1, 3))
    stream = pack(source, tmp_path / "out.tar")
    os.chown(source / "file", 12345, 54321)
    before = (source / "device").lstat().st_mtime_ns
    (source / "device").unlink()
    os.mknod(source / "device", 0o20666, os.makedev(1, 5))
    (source / "device").chmod(0o20644)
    os.utime(source / "device", ns=(before, before))
    found = compare(source, stream)
    assert {"./file: Uid differs", "./file: Gid differs", "./device: Device number differs"} <= set(found.differences)


def test_a_socket_is_in_no_archive_and_is_not_missed(tmp_path, source):
    stream = pack(source, tmp_path / "out.tar")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "directory/socket"))
    assert compare(source, stream).differences == []


ODD = [
    "new\nline",
    "file: Contents differ",
    "new\nline: Contents differ",
    "./file: Mod time differs".replace("/", "\\"),
    "block 3: ** Block of NULs **",
    "** Block of NULs **",
    "block 7: x",
    "a: Not linked to b",
    "tar: x: Warning: Cannot stat: No such file or directory",
    "ends in a backslash\\",
    "back\\nslash",
    "colon:",
    ": ",
    "schön",
    "not-utf8-\udcff",
    "esc\033[2J",
    " blank ",
]


def test_odd_names_that_have_not_changed_do_not_differ(tmp_path, source):
    for name in ODD:
        (source / name).write_text(name, errors="surrogateescape")
        (source / "directory" / name).mkdir()
    found = compare(source, pack(source, tmp_path / "out.tar"))
    assert (found.differences, found.members) == ([], 9 + 2 * len(ODD))


@pytest.mark.parametrize("name", ODD)
def test_every_change_of_an_odd_name_is_told_in_one_printable_line(tmp_path, source, name):
    (source / name).write_text("content")
    (source / (name + "2")).write_text("content")
    (source / "aside").mkdir()
    (source / "aside" / name).symlink_to("target")
    stream = pack(source, tmp_path / "out.tar")
    keep_time(source / name, lambda: (source / name).write_text("CONTENT"))
    (source / (name + "2")).unlink()
    (source / "aside" / name).unlink()
    (source / "aside" / (name + "3")).touch()
    found = compare(source, stream)
    whats = ["Contents differ", "is not in the backup", "is not there any more", "is not there any more"]
    assert sorted(text.rsplit(": ", 1)[1] for text in found.differences) == sorted(whats)
    assert all(text.isprintable() for text in found.differences)


def test_what_vanishes_while_it_is_looked_at_does_not_hide_what_is_beside_it(tmp_path, source, monkeypatch):
    stream = pack(source, tmp_path / "out.tar")
    for name in ("new1", "new2", "new3"):
        (source / name).touch()
    real = os.scandir

    def scan(path):
        """As scandir, but its second new entry is gone when it is asked for more."""

        class Gone:
            def __init__(self, entry):
                self.entry, self.name = entry, entry.name

            def stat(self, follow_symlinks=True):
                if self.name == b"new2":
                    raise FileNotFoundError(2, "No such file or directory")
                return self.entry.stat(follow_symlinks=follow_symlinks)

        class Scan:
            def __enter__(self):
                self.entries = real(path)
                return [Gone(entry) for entry in self.entries]

            def __exit__(self, *error):
                self.entries.close()

        return Scan()

    found = compare(source, stream)
    assert found.count == 3
    again = Comparison()
    again._names = {*found._names}
    monkeypatch.setattr(os, "scandir", scan)
    again.look_for_new(str(source))
    assert sorted(again.differences) == ["./new1: is not in the backup", "./new3: is not in the backup"]


@needs_root
def test_what_may_not_be_read_is_told_as_such(tmp_path, source):
    """As another user than the one who made the backup."""
    stream = pack(source, tmp_path / "out.tar")
    (source / "file").chmod(0o600)
    argv = compare_arguments()
    argv[1:1] = OPTIONS
    comparison = Comparison()
    with stream.open("rb") as file:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv],
            check=False,
            stdin=file,
            capture_output=True,
            cwd=source,
            env=clean_environment(os.environ),
        )
    for line in done.stderr.decode().splitlines():
        comparison.feed_error(line)
    assert comparison.differences == ["./file: Permission denied"]


def test_only_the_first_differences_are_kept_and_all_are_counted():
    comparison = Comparison()
    for number in range(3 * MAX_DIFFERENCES):
        comparison.feed(f"block {number}: ./{number}")
        comparison.feed(f"./{number}: Mode differs")
    assert (len(comparison.differences), comparison.count) == (MAX_DIFFERENCES, 3 * MAX_DIFFERENCES)
    assert comparison.members == 3 * MAX_DIFFERENCES


def test_a_member_costs_few_bytes_however_long_its_name():
    count = 50_000
    tracemalloc.start()
    try:
        comparison = Comparison()
        for number in range(count):
            comparison.feed(f"block {number}: ./{'a-rather-long-name-for-a-directory/' * 20}{number}")
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert comparison.members == count
    assert used / count < 150
