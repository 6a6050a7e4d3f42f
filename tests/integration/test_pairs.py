"""Filters that are undone automatically: whole round trips, with the keys in the usual places."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration import hard, images
from tests.integration.conftest import QUICK, Lab
from tests.integration.test_restore import error

STRANGER = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"  # from the README of age


@pytest.fixture
def quick(make_lab) -> Lab:
    """A lab with short waiting times."""
    lab: Lab = make_lab(**QUICK)
    return lab


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small directory."""
    return images.small(tmp_path / "source")


def head(lab: Lab, volume_id: str, count: int = 4) -> bytes:
    """The first bytes of a volume."""
    with lab.image(volume_id).open("rb") as image:
        return image.read(count)


@pytest.mark.heavy
def test_what_age_encrypted_comes_back_with_the_identity_and_is_verified_without(quick, source, tmp_path):
    """One volume, written once: the commands that read it differ."""
    key = tmp_path / "my key"
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run(["age-keygen", "-y", key], check=True, capture_output=True, text=True).stdout.strip()
    done = quick.backup("--compress", "zstd:9", "--encrypt", f"age:{recipient}", "--verify", source)
    assert (done.rc, done.stderr) == (0, "")
    volume = done.volume_id
    assert head(quick, volume, 14) == b"age-encryption"

    restored = quick.backup("restore", "--identity", key, volume, tmp_path / "copy")
    assert (restored.rc, restored.stderr) == (0, ""), restored
    assert hard.differences(source, tmp_path / "copy") == []

    assert "with --identity (ec2_backup_restore_identity)" in error(quick.backup("restore", volume, tmp_path / "none"))
    assert not (tmp_path / "none").exists()

    verified = quick.backup("verify", volume)
    assert (verified.rc, verified.stderr) == (0, "")
    opened = quick.backup("verify", "--identity", key, "--against", source, volume)
    assert (opened.rc, opened.stderr) == (0, "")

    launches = len(quick.calls("RunInstances"))
    typo = quick.backup("--encrypt", f"age:{recipient[:-1]}{'q' if recipient[-1] != 'q' else 'p'}", source)
    assert "malformed recipient" in error(typo)
    assert len(quick.calls("RunInstances")) == launches
    quick.assert_nothing_left(volume)


@pytest.mark.heavy
def test_what_gpg_encrypted_and_what_any_compressor_made_comes_back_by_itself(quick, source, tmp_path):
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    user = "It's me <me@example.com>"
    words = ["--batch", "--passphrase", "", "--quick-generate-key", user, "future-default", "default", "never"]
    keyring = {"GNUPGHOME": str(home)}
    subprocess.run(["gpg", *words], check=True, capture_output=True, env={**os.environ, **keyring})
    try:
        done = quick.backup("--encrypt", f"gpg:{user}", source, **keyring)
        assert (done.rc, done.stderr) == (0, "")
        restored = quick.backup("restore", done.volume_id, tmp_path / "gpg", **keyring)
        assert (restored.rc, restored.stderr) == (0, ""), restored
        assert hard.differences(source, tmp_path / "gpg") == []
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=True, env={**os.environ, **keyring})

    both = quick.backup("-l", "zstd", "-r", "gzip -1", source)
    assert (both.rc, both.stderr) == (0, "")
    assert head(quick, both.volume_id, 2) == b"\x1f\x8b"
    restored = quick.backup("restore", both.volume_id, tmp_path / "both")
    assert (restored.rc, restored.stderr) == (0, ""), restored
    assert hard.differences(source, tmp_path / "both") == []


@pytest.mark.heavy
def test_a_given_volume_that_the_archive_would_fill_is_refused_for_an_encryption_and_warned_of_for_a_compressor(
    quick, tmp_path
):
    """An encryption makes nothing smaller; how long the output of a compressor is, is not known."""
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/zeros").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)
    volume = quick.make_volume()
    refused = quick.backup("-v", volume, "--encrypt", f"age:{STRANGER}", tmp_path / "data")
    assert f"Volume {volume} is too small" in error(refused)
    assert quick.calls("RunInstances") == []
    done = quick.backup("-v", volume, "--compress", "zstd:1", tmp_path / "data")
    assert (done.rc, done.stdout) == (0, volume + "\n"), done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ec2-backup: warning: volume {volume} may be too small")
