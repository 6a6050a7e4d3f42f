# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""tar's arguments, the measured length, and what tar's end means."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.measure import measure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import (
    clean_environment,
    parse_version,
    tar_version,
)
from tests.unit.devices import MIB, hard_directory, needs_root, snapshot


def real_archive(directory: Path, output: Path, before: tuple[str, ...] = ()) -> tuple[int, archive.TarLog]:
    """Make the archive as the stream does; return tar's status and what it said."""
    with output.open("wb") as file:
        done = subprocess.run(
            [*before, *archive.tar_arguments(str(directory), "-")],
            check=False,
            stdout=file,
            stderr=subprocess.PIPE,
            env=clean_environment(os.environ),
        )
    log = archive.TarLog()
    for line in done.stderr.decode().splitlines():
        log.feed(line)
    return done.returncode, log


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("tar: ./a: file changed as we read it", "file"),
        ("tar: ./a: File removed before we read it", "file"),
        ("tar: ./a: Warning: Cannot open: Permission denied", "file"),
        ("tar: ./a: Cannot open: Permission denied", "file"),
        ("tar: ./a: Warning: Cannot stat: Permission denied", "file"),
        ("tar: ./a: File shrank by 4096 bytes; padding with zeros", "file"),
        ("tar: ./a: Warning: Read error at byte 0, while reading 512 bytes: Input/output error", "file"),
        ("tar: ./new\\nline \\377: file changed as we read it", "file"),
        ("tar: ./a: socket ignored", "harmless"),
        ("tar: Exiting with failure status due to previous errors", "harmless"),
        ("tar: POSIX ACL support is not available", "tool"),
        ("tar: -: Wrote only 4096 of 10240 bytes", "other"),
        ("tar: -: Cannot write: Broken pipe", "other"),
        ("tar: memory exhausted", "other"),
        ("tar: Error is not recoverable: exiting now", "other"),
        ("tar: unrecognized option '--sort=name'", "other"),
    ],
)
def test_each_line_of_tars_is_taken_for_what_it_is(line, kind):
    assert archive.classify_line(line) == kind


@pytest.mark.parametrize(
    ("status", "lines", "reason"),
    [
        (0, [], None),
        (0, ["tar: ./a: Warning: Cannot open: Permission denied"], None),
        (1, ["tar: ./a: file changed as we read it"], None),
        # An older tar, whose --ignore-failed-read does not cover that call:
        (2, ["tar: ./a: Cannot stat: No such device", "tar: Exiting with failure status due to previous errors"], None),
        (2, ["tar: memory exhausted", "tar: Error is not recoverable: exiting now"], "status 2: memory exhausted"),
        (
            2,
            ["tar: ./a: Cannot open: No such file", "tar: -: Cannot write: No space left"],
            "Cannot write: No space left",
        ),
        (2, [], "it gave no reason"),
        (-9, [], "killed by SIGKILL"),
        (127, ["sh: tar: not found"], "status 127"),
    ],
)
def test_the_archive_is_complete_only_if_tar_went_on_to_the_end(status, lines, reason):
    log = archive.TarLog()
    for line in lines:
        log.feed(line)
    told = archive.tar_failure(status, log)
    assert told is None if reason is None else told is not None and reason in told


def test_warnings_are_counted_beyond_those_that_are_kept():
    log = archive.TarLog(limit=3)
    for number in range(10):
        log.feed(f"tar: ./{number}: Warning: Cannot open: Permission denied")
    assert log.warnings_count == 10
    assert log.warnings == [f"./{number}: Cannot open: Permission denied" for number in range(3)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("tar (GNU tar) 1.34\nCopyright", (1, 34)),
        ("tar (GNU tar) 1.28", (1, 28)),
        ("bsdtar 3.6.2 - libarchive 3.6.2", None),
        ("tar (busybox) 1.35.0", None),
    ],
)
def test_only_gnu_tar_has_a_version(text, version):
    assert parse_version(text) == version


def test_the_measured_length_is_that_of_the_archive(tmp_path):
    directory = hard_directory(tmp_path / "source")
    measured, _log = measure(str(directory))
    status, _log = real_archive(directory, tmp_path / "out.tar")
    assert status == 0
    assert measured == (tmp_path / "out.tar").stat().st_size


@needs_root
def test_what_is_extracted_equals_the_source(tmp_path):
    directory = hard_directory(tmp_path / "source")
    status, log = real_archive(directory, tmp_path / "out.tar")
    assert (status, log.warnings) == (0, [])
    (tmp_path / "copy").mkdir()
    extract = ["tar", "-x", "-p", "--xattrs", "--acls", "--numeric-owner", "-C", str(tmp_path / "copy")]
    with (tmp_path / "out.tar").open("rb") as file:
        subprocess.run(extract, stdin=file, check=True)
    copy, source = snapshot(tmp_path / "copy"), snapshot(directory)
    assert copy == source
    assert len(source) > 30
    assert any(name.endswith(b"/not-utf8-\xff\xfe") for name in source)


def test_an_unchanged_directory_gives_the_same_archive_twice(tmp_path):
    directory = hard_directory(tmp_path / "source")
    for name in ("sparse", "all hole"):  # tar writes its process id into the headers of those
        (directory / name).unlink()
    real_archive(directory, tmp_path / "one.tar")
    (directory / "plain").read_bytes()  # changes its access time
    real_archive(directory, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (100 * MIB, [(0, 5)]),
        (100 * MIB, [(100 * MIB - 5, 5)]),
        (100 * MIB, [(50 * MIB, 3 * MIB)]),
        (40 * MIB, [(offset, 1000) for offset in range(0, 39 * MIB, MIB // 8)]),
        (7_000_001, []),
    ],
)
def test_the_holes_of_a_file_are_not_counted(tmp_path, size, written):
    directory = tmp_path / "source"
    directory.mkdir()
    for copy in range(4):
        with (directory / f"file{copy}{'n' * 80 * copy}").open("wb") as file:
            for offset, length in written:
                file.seek(offset)
                file.write(os.urandom(length))
            file.truncate(size)
    real_archive(directory, tmp_path / "out.tar")
    length = (tmp_path / "out.tar").stat().st_size
    measured, _log = measure(str(directory))
    assert measured in (length, length + MIB)  # what is not known of a header can tip it over to the next record


def test_measuring_reads_no_data_of_files_with_holes(tmp_path):
    directory = tmp_path / "source"
    directory.mkdir()
    with (directory / "large").open("wb") as file:
        for _ in range(300):
            file.write(b"x" * MIB)
        file.truncate(600 * MIB)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured, _log = measure(str(directory))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert measured == 301 * MIB
    # tar --sparse makes 600,000 system calls to read it.
    assert after.ru_stime + after.ru_utime - before.ru_stime - before.ru_utime < 0.1


def test_tar_options_of_the_environment_do_not_change_the_archive(tmp_path, monkeypatch):
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "kept").write_bytes(os.urandom(3 * MIB))
    plain, _log = measure(str(directory))
    monkeypatch.setenv("TAR_OPTIONS", "--exclude=kept")
    assert measure(str(directory))[0] == plain


@needs_root
def test_files_that_cannot_be_read_are_warnings_and_the_rest_is_there(tmp_path):
    directory = tmp_path / "source"
    (directory / "closed").mkdir(parents=True)
    (directory / "readable").write_text("x")
    (directory / "secret").write_text("x")
    (directory / "secret").chmod(0)
    (directory / "closed").chmod(0)
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")  # root as bound by modes as anybody
    status, log = real_archive(directory, tmp_path / "out.tar", before)
    assert archive.tar_failure(status, log) is None
    assert log.warnings_count == len(log.warnings) == 2
    assert sorted(log.warnings) == [
        "./closed: Cannot open: Permission denied",
        "./secret: Cannot open: Permission denied",
    ]
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "out.tar")], check=True, stdout=subprocess.PIPE).stdout
    assert b"./readable\n" in listed


def test_a_path_that_cannot_be_saved_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    cases = {
        "": "no directory was given",
        str(tmp_path / "absent"): "there is no such directory",
        str(tmp_path / "file"): "is not a directory",
        str(tmp_path / "file" / "below"): "Not a directory",
    }
    for path, message in cases.items():
        with pytest.raises(SourceError, match=message) as caught:
            archive.check_directory(path)
        assert "\n" not in str(caught.value)


def test_a_symbolic_link_to_a_directory_stands_for_what_it_leads_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "inside").write_text("x")
    (tmp_path / "link").symlink_to("real")
    path = archive.check_directory(str(tmp_path / "link"))
    assert path == str(tmp_path / "link")
    real_archive(Path(path), tmp_path / "out.tar")
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "out.tar")], check=True, stdout=subprocess.PIPE).stdout
    assert listed == b"./\n./inside\n"


def test_without_tar_the_message_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="install the package tar"):
        tar_version()
