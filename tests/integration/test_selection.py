"""What is left out of a backup, in whole runs: by patterns, and always."""

import os
from pathlib import Path

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import BLOCK_BYTES, decode
from tests.integration import hard
from tests.integration.conftest import QUICK, Lab


@pytest.fixture
def quick(make_lab) -> Lab:
    """A lab with short waiting times."""
    lab: Lab = make_lab(**QUICK)
    return lab


def names(top: Path) -> set[str]:
    """All there is below a directory."""
    return {str(path.relative_to(top)) for path in top.rglob("*")}


@pytest.mark.heavy
def test_what_matches_is_neither_measured_nor_saved_and_the_manifest_says_so(quick, tmp_path):
    source = tmp_path / "source"
    for name in ("kept", "work/main.c", "work/main.o", "cache/large", ".trash/file", "marked/file"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    (source / "cache/large").write_bytes(os.urandom(1 << 20))
    (source / "marked/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    with (source / "sparse.o").open("wb") as file:
        file.truncate(3 << 30)
    (tmp_path / "patterns").write_text("# what is made anew\n./cache/*\n")
    options = ["--exclude", "*.o", "--exclude", f"{source}/.trash", "--exclude-from", "patterns", "--exclude-caches"]
    runner = Path(__file__).parents[2] / "ec2_backup_runner.py"
    done = quick.run(runner, *options, "--one-file-system", "source", cwd=tmp_path)
    assert (done.rc, done.stderr) == (0, "")
    copy = hard.recover(quick.image(done.volume_id), tmp_path / "copy")
    assert names(copy) == {"kept", "work", "work/main.c", "cache", "marked", "marked/CACHEDIR.TAG"}
    with quick.image(done.volume_id).open("rb") as image:
        image.seek(-BLOCK_BYTES, os.SEEK_END)
        manifest = decode(image.read())
    assert manifest["stream"]["bytes"] == 1 << 20
    assert manifest["selection"] == {
        "exclude": ["*.o", f"{source}/.trash", "./cache/*"],
        "exclude_count": 3,
        "exclude_caches": True,
        "one_file_system": True,
        "left_out": [],
    }
    against = quick.backup("verify", "--against", source, done.volume_id)
    assert (against.rc, against.stderr) == (0, "")


@pytest.mark.heavy
def test_a_backup_of_the_whole_machine_leaves_out_the_kernels_filesystems_and_warns_of_it(quick, tmp_path):
    """All but /proc, /srv, /sys and a file is left out by a pattern: this machine is large."""
    done = quick.backup("--exclude", "/[!psu]*", "--exclude", "/usr", "/")
    assert done.rc == 0, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("ec2-backup: warning: left out, ")
    for path in ("/dev", "/proc", "/run", "/sys"):
        assert path in line
    copy = hard.recover(quick.image(done.volume_id), tmp_path / "copy")
    found = names(copy)
    assert {"proc", "sys"} <= found
    assert not any(name.startswith(("proc/", "sys/")) for name in found)
    assert {name.partition("/")[0] for name in found} <= {entry for entry in os.listdir("/") if entry[0] in "psu"}
