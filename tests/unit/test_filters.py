# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What undoes a filter: the table against the real programs, and what must not be in it."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tarfile
import time

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import inverse_program, known_inverse

# Commands whose inverse is known, by that; each is run for real where its program is installed.
KNOWN = {
    "gzip -dc": [
        "gzip, /bin/gzip, 'gzip' -1, gzip -, gzip -c -, gzip -9nc, gzip -c9, gzip --rsyncable, gzip --fast",
        "pigz, pigz -c -, pigz -11, pigz -9 -p 2, pigz -9p2, pigz --processes 2 -b 256, pigz -iR --best",
        "compress -f, compress -cf, compress -fb12, compress -f -b 12",
    ],
    "bzip2 -dc": [
        "bzip2, bzip2 -9c, bzip2 -c -, bzip2 -, bzip2 --fast -kqz, bzip2 --compress",
        "pbzip2, pbzip2 -c, pbzip2 -9cp2, pbzip2 -m100 -b5 --best",
        "lbzip2, lbzip2 -9 -n 2, lbzip2 -cn2, lbzip2 --sequential --fast",
    ],
    "xz -dc": [
        "xz, xz -, xz -9eT0, xz -T 2 -c -, xz --threads=2 --block-size=64KiB, xz --threads 2, xz -C sha256 -0",
        "xz --check=none --format=xz, xz --memlimit-compress=500MiB --extreme -3 -qQ",
    ],
    "zstd -dc": [
        "zstd, zstd -, zstd -c -, zstd -19T0, zstd -T0 --rsyncable, zstd -qz, zstdmt -1, zstd --no-check, zstd -B1MiB",
        "zstd --long, zstd --long=27, zstd --long=26 --fast=3, zstd --ultra -20, zstd --adapt=min=1,max=5 -B1M",
        "zstd --threads=2 --no-progress, zstd --size-hint=10MiB, zstd --single-thread -f --fast",
        "pzstd, pzstd -c, pzstd -19p2, pzstd --processes 2 -q, pzstd --ultra -20 --no-check",
    ],
    "zstd -dc --long=28": ["zstd --long=28, zstd -1 --long=28 -T2, zstd --long=28 --long=20"],
    "lz4 -dc": ["lz4, lz4 -c -, lz4 -, lz4 -12, lz4 -9B4, lz4 -BD --fast=3, lz4 --best -zq --no-frame-crc"],
    "lzop -dc": ["lzop, lzop -9c, lzop -, lzop --fast -q"],
    "lzip -dc": [
        "lzip, lzip -0c, lzip -9 -, lzip -s1MiB, lzip -m 50 -b 100KiB, lzip --member-size=100KiB",
        "plzip, plzip -0 -n 2, plzip -B1MiB --threads=2",
    ],
    "brotli -dc": ["brotli -1, brotli -q 5 -w 20, brotli -c9, brotli --quality=5 --lgwin=20, brotli -1 -"],
}
PAIRS = [(command, inverse) for inverse, rows in KNOWN.items() for row in rows for command in row.split(", ")]

UNKNOWN = {
    "no simple command": [
        "gzip; rm -rf /, gzip | cat, gzip && true, gzip &, gzip > f, gzip < f, gzip\n-9, gzip\r",
        "gzip #, gzip '-9, gzip \\;, gzip\u00a0-9, gzip \u22129",
        "$(gzip), `gzip`, gzip $LEVEL, gzip ${LEVEL}, gzip -?, gzip *, ~/gzip, { gzip; }, (gzip)",
        "LEVEL=9 gzip, GZIP=-9 gzip, env gzip, nice gzip, sudo gzip, exec gzip, sh -c gzip, , \t ",
    ],
    "the other direction, or none": [
        "gzip -d, gzip -dc, gzip -9d, gzip --decompress, gzip -t, gzip -l, gzip --version, gzip -h, gunzip, zcat",
        "zstd -d, zstd -t, zstd -b, zstd --train, unzstd, pzstd -d, xz -dc, xz -t, xz --list, xz -k -d, lz4 -d",
        "bzip2 -d, bzip2 -t, pigz -d, pbzip2 -dc, lbzip2 -d, lzop -x, lzip -d, compress -d, brotli -d",
    ],
    "files": [
        "gzip file, gzip -c file, gzip -- -, gzip - -, gzip '', gzip -r, zstd -o out, zstd -oout, zstd --patch-from=f",
        "zstd --output-dir-flat=d, zstd -T 0, xz --files=f, pbzip2 -, pzstd -, brotli -o f, lz4 in out",
    ],
    "another format, or something that would have to be known again": [
        "zstd --format=gzip, zstd -D dict, zstd -Ddict, zstd --zstd=wlog=30, zstd --long=32, zstd --long=9, lz4 -l",
        "xz --format=raw, xz -F lzma, pigz -z, pigz -K, brotli --large_window=26, pixz, pixz -9",
    ],
    "strangers": [
        "gzip -Z, gzip --unheard-of, gzip --fas, zstd --long=, xz -T, cat, gpg -e -r me, openssl enc -aes-256-ctr",
        "my-gzip, gzip.old, busybox gzip, tr a b",
    ],
}


def archive_like() -> bytes:
    """Return an archive of members that compress well, badly and not at all; longer than a small block of each."""
    dice = random.Random(1)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (
            ("zeros", bytes(400_000)),
            ("text", b"".join(b"line %d\n" % dice.randrange(1000) for _ in range(20_000))),
            ("noise", dice.getrandbits(8 * 150_000).to_bytes(150_000, "big")),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


DATA = archive_like()


def run(command: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], input=data, check=False, capture_output=True, timeout=60)


@pytest.mark.parametrize(("command", "inverse"), PAIRS)
def test_the_inverse_of_a_known_compressor_is_derived(command, inverse):
    assert known_inverse(command) == inverse


@pytest.mark.parametrize(
    "command", [command for rows in UNKNOWN.values() for row in rows for command in row.split(", ")]
)
def test_an_inverse_that_is_not_certain_is_not_derived(command):
    assert known_inverse(command) is None


@pytest.mark.parametrize(("command", "inverse"), PAIRS)
def test_a_derived_inverse_gives_back_every_byte(command, inverse):
    for program in (inverse_program(command), inverse_program(inverse)):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    there = run(command, DATA)
    assert there.returncode == 0, there.stderr
    assert there.stdout != DATA
    back = run(inverse, there.stdout)
    assert back.returncode == 0, back.stderr
    assert back.stdout == DATA


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_a_window_that_zstd_refuses_unasked_is_asked_for():
    stored = run("zstd -1 --long=28", DATA).stdout
    assert run("zstd -dc", stored).returncode != 0
    assert run("zstd -dc --long=28", stored).stdout == DATA
    assert known_inverse("zstd --long=31") == "zstd -dc --long=31"


@pytest.mark.parametrize(
    "command",
    ["zstd -" + "T11B1MB1" * 400 + "!", "gzip -" + "9" * 4000 + "d", "gzip" + " -9" * 1300 + " x", "gzip -9" * 100_000],
)
def test_a_hostile_command_is_judged_at_once(command):
    start = time.monotonic()
    assert known_inverse(command) is None
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("gzip -dc", "gzip"),
        ("/opt/bin/gzip -dc", "/opt/bin/gzip"),
        ("LC_ALL=C gpg -d | gzip -dc", "gpg"),
        ("A=1", ""),
        ("", ""),
        ("(gzip -dc)", ""),
        ("$decompress", ""),
        ("gzip 'x", ""),
    ],
)
def test_the_program_that_a_command_needs_is_its_first_word(command, program):
    assert inverse_program(command) == program
