# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest: what goes in comes out, and nothing else ever passes for it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import (
    BLOCK_BYTES,
    GLOBAL_HEADER_OPTION,
    MAGIC,
    ManifestError,
    complete,
    decode,
    encode,
    is_ours,
    is_tar,
    is_writing,
    pad,
    writing,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment

SECTOR = 512
GIB = 1 << 30
RUN = {"run_id": "20261122t184500z-1f2e3d4c", "host": "db1", "path": "/srv/data", "started": "2026-11-22T18:45:00Z"}


def a_complete(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **RUN,
        "stream_bytes": 1048576,
        "stream_sha256": "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58",
        "stored_bytes": 1048576,
        "volume_bytes": GIB,
        "finished": "2026-11-22T18:45:09Z",
        "version": "0.1.0",
        **changes,
    }
    return complete(**fields)


def a_writing(**changes: Any) -> dict[str, Any]:
    return writing(**{**RUN, "version": "0.1.0", **changes})


def block_of(text: bytes, version: bytes = b"1", length: int | None = None, checksum: str | None = None) -> bytes:
    """Return a block around any text, with a right header unless told otherwise."""
    size = len(text) if length is None else length
    checksum = checksum or hashlib.sha256(text).hexdigest()
    return pad(MAGIC + version + b" %d " % size + checksum.encode() + b"\n" + text)


def kind_of(block: bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        decode(block)
    assert "\n" not in str(caught.value)
    return caught.value.kind


# ---- round trip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        a_writing(),
        a_complete(),
        a_complete(local_filter="gzip -9", remote_filter="tr a-z b-za", remote_inverse="tr b-za a-z", stored_bytes=9),
        a_complete(path="/srv/ü\n\x00\udcff\"\\' %", host="\u2028", warnings=3, stored_bytes=0, stream_bytes=0),
        a_complete(volume_bytes=64 << 40, stream_bytes=(64 << 40) - BLOCK_BYTES, stored_bytes=(64 << 40) - BLOCK_BYTES),
        {**a_complete(), "later": {"field": [None, True, 1.5]}},
    ],
)
def test_what_is_encoded_is_decoded(document):
    block = pad(encode(document))
    assert len(block) == BLOCK_BYTES
    assert decode(block) == document


def test_the_head_is_a_header_line_and_json_in_ascii_without_blanks():
    line, text = encode(a_complete(path="/srv/ü x")).split(b"\n")
    assert line == b"EC2-BACKUP MANIFEST 1 %d %s" % (len(text), hashlib.sha256(text).hexdigest().encode())
    assert text.isascii()
    assert text.replace(b"/srv/\\u00fc x", b"").count(b" ") == 0


def test_only_writing_says_that_there_is_no_backup():
    assert is_writing(a_writing())
    assert not is_writing(a_complete())


def test_the_builder_records_the_inverse_it_knows_and_null_where_it_knows_none():
    filters = a_complete(local_filter="zstd --long=31", remote_filter="my-cipher", stored_bytes=7)["filters"]
    assert filters["local"] == {"command": "zstd --long=31", "inverse": "zstd -dc --long=31"}
    assert filters["remote"] == {"command": "my-cipher", "inverse": None}
    assert a_complete(local_filter="", remote_filter=None)["filters"] == {"local": None, "remote": None}


def test_a_given_inverse_is_recorded():
    filters = a_complete(local_filter="my-cipher -e", local_inverse="my-cipher -d")["filters"]
    assert filters["local"] == {"command": "my-cipher -e", "inverse": "my-cipher -d"}


def test_the_longest_path_and_two_long_filters_fit():
    document = a_complete(
        path="/" + "\udcff" * 4095, host="h" * 255, local_filter="x" * 16384, remote_filter="y" * 16384
    )
    assert decode(pad(encode(document))) == document


def test_a_manifest_that_does_not_fit_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"there is room for 65536: put the filter's command into a script"):
        encode(a_complete(local_filter="x" * BLOCK_BYTES))
    with pytest.raises(ValueError, match="do not fit"):
        pad(bytes(BLOCK_BYTES + 1))


def test_a_manifest_that_fills_the_block_to_its_last_byte_is_read():
    room = BLOCK_BYTES - len(encode(a_complete(local_filter="x" * 60000, local_inverse="y")))
    document = a_complete(local_filter="x" * (60000 + room), local_inverse="y")
    assert len(encode(document)) == BLOCK_BYTES
    assert decode(pad(encode(document))) == document


# ---- what must not pass ---------------------------------------------------------------------------------------------


def field(document: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return a copy of the document with one field set, or removed if the value is ``...``."""
    changed = copy.deepcopy(document)
    *parents, last = name.split(".")
    target = changed
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return changed


REQUIRED = {
    "writing": "state run_id source source.host source.path started tool tool.name tool.version",
    "complete": "state run_id source.host source.path stream stream.bytes stream.sha256 stored stored.bytes filters "
    "filters.local filters.remote started finished warnings volume volume.bytes tool.name tool.version",
}
WRONG: dict[str, list[Any]] = {
    "state": ["done", "", None, 1, [], {}],
    "run_id": ["", None, 1, []],
    "stream.bytes": [-1, 1.0, "1", True, None, 1 << 63, 1048575],  # the last is not what is stored
    "stored.bytes": [-1, None, 1048575, GIB - BLOCK_BYTES + 1],
    "stream.sha256": ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", None],
    "filters.local": ["gzip", {}, [], {"command": "gzip"}, {"command": "", "inverse": None}],
    "filters.remote": [{"command": "gzip", "inverse": ""}],
    "started": ["", None, 1, "2026-11-22 18:45:00Z", "2026-11-22T18:45:00", "2026-11-22T18:45:00+00:00"],
    "finished": ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-22T18:45:00Z\n", "\u0662026-11-22T18:45:00Z"],
    "warnings": [-1, False, "0", None],
    "volume.bytes": [1048576, None],
}
INVALID = [
    *[(state, name, ...) for state, names in REQUIRED.items() for name in names.split()],
    *[("complete", name, value) for name, values in WRONG.items() for value in values],
]


@pytest.mark.parametrize(("state", "name", "value"), INVALID)
def test_a_document_with_a_wrong_field_is_neither_written_nor_believed(state, name, value):
    document = field(a_writing() if state == "writing" else a_complete(), name, value)
    with pytest.raises(ValueError, match="this cannot be a manifest"):
        encode(document)
    assert kind_of(block_of(json.dumps(document).encode())) == "damaged"


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b'"complete"', b"\xff", "{'ü': 1}".encode(), b"NaN", b"[" * 60000, b"{}x"),
        b"9" * 60000,
        json.dumps(a_complete()).encode().replace(b'"warnings": 0', b'"warnings": NaN'),
        json.dumps(a_complete(), ensure_ascii=False).encode().replace(b"db1", "dü".encode()),
    ],
)
def test_what_is_no_json_object_is_damaged_whatever_its_checksum_says(text):
    assert kind_of(block_of(text)) == "damaged"


def test_json_with_blanks_and_another_order_is_read():
    document = a_complete()
    text = json.dumps(dict(reversed(list(document.items()))), indent=2).encode()
    assert decode(block_of(text)) == document


@pytest.mark.parametrize(
    "block",
    [
        bytes(BLOCK_BYTES),
        random.Random(1).randbytes(BLOCK_BYTES),
        pad(b"\n" + encode(a_complete())),
        pad(MAGIC.lower()),
    ],
)
def test_a_block_without_the_magic_is_no_manifest(block):
    assert kind_of(block) == "absent"


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"0 2 %s\n", b"01 2 %s\n", b"1  2 %s\n", b"1 02 %s\n", b"1 2 %s", b"1 2 %s \n", b"1 2\n"),
        *(b"one 2 %s\n", b"-1 2 %s\n", b"1.0 2 %s\n", b"99999 2 %s\n", b"1 -2 %s\n", b"1 99999 %s\n"),
        *(b"1 65530 %s\n", b"1 2 %s\r\n"),
    ],
)
def test_a_malformed_header_line_is_damage(line):
    checksum = hashlib.sha256(b"{}").hexdigest().encode()
    assert kind_of(pad(MAGIC + line.replace(b"%s", checksum) + b"{}")) == "damaged"


def test_a_checksum_in_capitals_is_damage():
    text = json.dumps(a_complete()).encode()
    assert kind_of(block_of(text, checksum=hashlib.sha256(text).hexdigest().upper())) == "damaged"


@pytest.mark.parametrize("version", [b"2", b"10", b"9999"])
def test_a_higher_version_is_refused_and_not_interpreted(version):
    with pytest.raises(ManifestError, match=f"version {version.decode()}, .* use a newer ec2-backup") as caught:
        decode(pad(MAGIC + version + b" whatever comes then"))
    assert caught.value.kind == "newer"


@pytest.mark.parametrize("size", [0, 1, 100, BLOCK_BYTES - 1, BLOCK_BYTES + 1])
def test_a_block_of_another_size_is_damage(size):
    assert (
        kind_of(pad(encode(a_complete())).ljust(size, b"\0")[:size] if size <= BLOCK_BYTES else bytes(size))
        == "damaged"
    )


def test_what_follows_the_json_is_not_looked_at():
    head = encode(a_complete())
    assert decode(head + random.Random(1).randbytes(BLOCK_BYTES - len(head))) == a_complete()


def test_a_complete_manifest_has_to_stand_at_its_own_volumes_end():
    block = pad(encode(a_complete()))
    assert decode(block, end=GIB) == a_complete()
    with pytest.raises(ManifestError, match="for a volume of 1073741824 bytes, and ends at byte 2147483648") as caught:
        decode(block, end=2 * GIB)
    assert caught.value.kind == "damaged"
    assert decode(pad(encode(a_writing())), end=2 * GIB) == a_writing()


def test_every_message_says_what_to_do():
    for block in (bytes(BLOCK_BYTES), pad(MAGIC), pad(MAGIC + b"2 "), b""):
        with pytest.raises(ManifestError, match=r"(check that|use a|use another) "):
            decode(block)


# ---- damage ---------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_in_the_manifest_goes_unnoticed():
    head = encode(a_complete(local_filter="gzip"))
    for position in range(len(head)):
        for bit in range(8):
            block = bytearray(pad(head))
            block[position] ^= 1 << bit
            with pytest.raises(ManifestError) as caught:
                decode(bytes(block))
            # The version's digit may have become a higher one; all else is known for damage, the magic included.
            newer = position == len(MAGIC) and block[position] in b"23456789"
            assert caught.value.kind == ("newer" if newer else "damaged"), (position, bit)


def random_document(dice: random.Random) -> dict[str, Any]:
    """Return a document of any size: within one sector, over several, or over the whole block."""
    length = dice.choice([1, 30, 200, 600, 2000, 20_000, 58_000])
    words = "".join(dice.choices("abc /\u00fc\n", k=dice.randrange(length) // 2))
    changes = {"run_id": f"{dice.getrandbits(32):08x}", "path": "/" + words[:9000], "host": dice.choice(["a", "b"])}
    if dice.random() < 0.4:
        return a_writing(**changes)
    stored = dice.randrange(GIB - BLOCK_BYTES)
    return a_complete(**changes, local_filter="x" + words[9000:], remote_filter="cat", stored_bytes=stored)


def sectors_written(dice: random.Random, count: int) -> list[bool]:
    """Return which sectors of a torn write arrived: a beginning, an end, all but one, one alone, or any of them."""
    cut = dice.randrange(count + 1)
    share = dice.random()
    return dice.choice(
        [
            [sector < cut for sector in range(count)],
            [sector >= cut for sector in range(count)],
            [sector != cut for sector in range(count)],
            [sector == cut for sector in range(count)],
            [dice.random() < share for _ in range(count)],
        ]
    )


def attempt(block: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """Return the document, or the kind of trouble."""
    try:
        return decode(block), None
    except ManifestError as error:
        return None, error.kind


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_write_shows_the_old_document_or_the_new_one_or_damage(seed):
    """The header with its checksum lies in one sector, and a checksum fits one document only."""
    dice = random.Random(seed)
    seen = {"old": 0, "new": 0, "trouble": 0}
    for _ in range(150):
        old, new = random_document(dice), random_document(dice)
        before, after = pad(encode(old)), pad(encode(new))
        if dice.random() < 0.2:  # what stood there was no manifest
            old, before = {}, dice.choice([bytes(BLOCK_BYTES), dice.randbytes(BLOCK_BYTES)])
        written = sectors_written(dice, BLOCK_BYTES // SECTOR)
        torn = b"".join(
            (after if arrived else before)[sector * SECTOR : (sector + 1) * SECTOR]
            for sector, arrived in enumerate(written)
        )
        document, trouble = attempt(torn)
        if document is None:
            assert trouble == "damaged" or (trouble == "absent" and not old)
            seen["trouble"] += 1
        else:
            # The document that is seen is that of the first sector: a header never speaks for another's JSON.
            assert document == (new if written[0] else old)
            seen["new" if written[0] else "old"] += 1
    assert all(seen.values()), seen


# ---- the archive's first bytes --------------------------------------------------------------------------------------

PAX_OPTION = "exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"


def gnu_tar(
    directory: Path, *options: str, pax: str = f"{PAX_OPTION},{GLOBAL_HEADER_OPTION}", **environment: str
) -> bytes:
    return subprocess.run(
        [
            "tar",
            "-C",
            str(directory),
            *(options or ("--format=posix", f"--pax-option={pax}")),
            "--sort=name",
            "-cf",
            "-",
            ".",
        ],
        check=True,
        stdout=subprocess.PIPE,
        env={**clean_environment(os.environ), **environment},
    ).stdout


@pytest.fixture
def directory(tmp_path):
    """A directory whose archive needs extended headers: a long name that is not ASCII, a time with a fraction."""
    top = tmp_path / "source"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_bytes(b"data\n" * 300)
    (top / "sub" / ("\u00fc" * 90)).write_bytes(b"")
    os.utime(top / "file", ns=(1, 1_600_000_000_123_456_789))
    return top


@pytest.fixture
def archive_path(directory, tmp_path):
    path = tmp_path / "archive.tar"
    path.write_bytes(gnu_tar(directory))
    return path


def test_an_archive_with_our_comment_is_known_by_its_first_bytes(directory):
    archive = gnu_tar(directory)
    assert is_ours(archive[:1536])
    assert is_tar(archive[:512])


def test_the_same_directory_gives_the_same_archive_at_another_time_in_another_place(directory, tmp_path):
    first = gnu_tar(directory, TMPDIR="/elsewhere", TZ="Asia/Tokyo")
    second_now = int(time.time())
    while int(time.time()) == second_now:  # the header's time has whole seconds
        time.sleep(0.05)
    assert gnu_tar(directory, TMPDIR=str(tmp_path), TZ="UTC") == first


@pytest.mark.parametrize(
    "pax",
    [
        PAX_OPTION,
        PAX_OPTION + ",comment=ec2-backup2",
        PAX_OPTION + ",comment=not ec2-backup",
        PAX_OPTION + ",comment:=ec2-backup",  # a record of each file
        PAX_OPTION + ",globexthdr.name=ec2-backup,charset=ec2-backup",
    ],
)
def test_an_archive_without_our_comment_is_not_taken_for_ours(directory, pax):
    archive = gnu_tar(directory, pax=pax)
    assert is_tar(archive)
    assert not is_ours(archive[:1536])


def test_our_comment_is_found_among_other_records(directory):
    for option in ("charset=x,comment=ec2-backup", "comment=ec2-backup,charset=x"):
        assert is_ours(gnu_tar(directory, pax=f"{PAX_OPTION},{option}"))


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_an_archive_of_each_format_is_known_for_one(directory, form):
    shutil.rmtree(directory / "sub")  # v7 has no room for that name
    archive = gnu_tar(directory, f"--format={form}")
    assert is_tar(archive)
    assert is_tar(archive[:512])
    assert not is_ours(archive)


def test_a_header_that_was_summed_as_signed_bytes_is_known():
    header = bytearray(tarfile.TarInfo("\u00fc" * 20).tobuf(tarfile.USTAR_FORMAT, "utf-8"))
    assert is_tar(bytes(header))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in header)
    assert is_tar(bytes(header))


def test_what_is_no_archive_is_not_taken_for_one(directory):
    header = gnu_tar(directory)[:1536]
    noise = random.Random(1).randbytes(1536)
    for data in (b"", bytes(1536), noise, header[:511], MAGIC.ljust(1536), b"\x1f\x8b" + noise, b"\0" + header):
        assert not is_tar(data)
        assert not is_ours(data)


def test_a_flipped_bit_in_the_global_header_makes_it_neither_an_archive_nor_ours(directory):
    archive = gnu_tar(directory)[:1536]
    for position in range(512):
        # The checksum's own field has blanks and a NUL around its digits, which may become one another.
        if not 148 <= position < 156:
            damaged = bytearray(archive)
            damaged[position] ^= 1
            assert not is_tar(bytes(damaged))
            assert not is_ours(bytes(damaged))


@pytest.mark.parametrize(
    "records", [b"x", b"22", b"22 comment=ec2-backup", b"0 comment=ec2-backup\n", b"3 \n", b"999 comment=x\n"]
)
def test_malformed_records_are_nobodys(records):
    header = tarfile.TarInfo("ec2-backup")
    header.type, header.size = b"g", len(records)
    assert not is_ours(header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(1024, b"\0"))


NAMES = ["./", "./file", "./sub/", "./sub/" + "\u00fc" * 90]
READERS = [["tar"], ["busybox", "tar"], ["bsdtar"]]


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_other_readers_list_and_extract_our_archive_without_a_word(reader, archive_path, directory, tmp_path):
    if shutil.which(reader[0]) is None:
        pytest.skip(f"{reader[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    listed = subprocess.run([*reader, "-tf", archive_path], check=True, capture_output=True, env=environment)
    assert listed.stderr == b""
    shown = [
        re.sub(rb"\\([0-7]{3})", lambda digits: bytes([int(digits[1], 8)]), line).decode()
        for line in listed.stdout.splitlines()
    ]
    assert sorted(shown) == NAMES
    target = tmp_path / "target"
    target.mkdir()
    extracted = subprocess.run(
        [*reader, "-C", target, "-xf", archive_path], check=True, capture_output=True, env=environment
    )
    assert (extracted.stdout, extracted.stderr) == (b"", b"")
    assert sorted(path.name for path in target.rglob("*")) == sorted(path.name for path in directory.rglob("*"))
    assert (target / "file").read_bytes() == (directory / "file").read_bytes()


def test_pythons_tarfile_reads_our_archive_and_shows_the_comment(archive_path):
    with tarfile.open(archive_path) as archive:
        assert archive.pax_headers == {"comment": "ec2-backup"}
        assert archive.getnames() == [name.rstrip("/") for name in NAMES]


# ---- docs/volume-format.md ------------------------------------------------------------------------------------------


def fenced(language: str = "") -> list[str]:
    """Return the fenced parts, of one language, of the format's document."""
    document = (Path(__file__).parents[2] / "docs" / "volume-format.md").read_text()
    return [
        text
        for name, text in re.findall(r"^```(\w*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
        if name == language
    ]


def hexdump(data: bytes) -> list[str]:
    """Return the lines of ``hexdump -C``, without those at which it would print only a star."""
    lines = []
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        halves = "  ".join(" ".join(f"{byte:02x}" for byte in half) for half in (row[:8], row[8:]))
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset:08x}  {halves}  |{shown}|")
    return lines


def example() -> dict[str, Any]:
    return a_complete(
        host="web1",
        stream_bytes=1274,
        stored_bytes=1274,
        stream_sha256="49bcd9f05fc0c143ef5f740229e4a38c5d3c65fdb5773ac983a8ad2f2276e16c",
        finished="2026-11-22T18:45:02Z",
        local_filter="gzip -9",
    )


def test_the_documents_example_is_what_is_written():
    head = encode(example())
    assert head.decode() + "\n" in fenced()
    [dump] = [text for text in fenced() if text.startswith("$ tail -c 65536")]
    shown = [line for line in dump.splitlines() if line.endswith("|")]
    assert len(shown) == 11
    assert set(shown) <= set(hexdump(pad(head)))


def test_the_documents_global_header_is_what_tar_writes(directory):
    [dump] = [text for text in fenced() if "|22 comment=ec2-b|" in text]
    shown = [line for line in dump.splitlines() if line.endswith("|")]
    assert set(shown) <= set(hexdump(gnu_tar(directory)[:1024]))


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def read_by_shell(shell: str, image: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    [script] = fenced("sh")
    program = tmp_path / "reader"
    program.write_text(script)
    return subprocess.run([*shell.split(), program, image], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def volume(tmp_path):
    """An image of a volume of 1 GiB with a stream and a manifest, and the document."""
    stream = random.Random(1).randbytes(300_001)
    document = a_complete(
        path='/srv/"state":"writing", "remote":{} \\',
        stream_bytes=len(stream),
        stored_bytes=len(stream),
        stream_sha256=hashlib.sha256(stream).hexdigest(),
    )
    path = tmp_path / "volume.img"
    with path.open("wb") as file:
        file.truncate(GIB)
    patch(path, 0, stream)
    patch(path, GIB - BLOCK_BYTES, pad(encode(document)))
    return path, document


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_the_documents_reader_reads_what_we_write(shell, volume, tmp_path):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    image, document = volume
    done = read_by_shell(shell, image, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == document


def test_the_documents_reader_finds_the_manifest_of_an_enlarged_volume(volume, tmp_path):
    image, document = volume
    with image.open("r+b") as file:
        file.truncate(3 * GIB)
    assert json.loads(read_by_shell("sh", image, tmp_path).stdout) == document


@pytest.mark.parametrize(
    ("offset", "data", "reason"),
    [
        (300_000, b"?", "the stream is damaged"),
        (GIB - BLOCK_BYTES + 300, b"?", "the manifest is damaged"),
        (GIB - BLOCK_BYTES + 50, b"?", "the manifest is damaged"),
        (GIB - BLOCK_BYTES + 20, b"2", "a manifest of another version: 2"),
        (GIB - BLOCK_BYTES, bytes(BLOCK_BYTES), "no manifest"),
        (GIB - BLOCK_BYTES, pad(encode(a_writing())), "no complete backup"),
        (
            GIB - BLOCK_BYTES,
            pad(encode(a_complete(remote_filter="gzip"))),
            "a remote filter has to be undone before the sum can be checked",
        ),
    ],
)
def test_the_documents_reader_refuses_what_is_no_good(offset, data, reason, volume, tmp_path):
    image, _ = volume
    patch(image, offset, data)
    done = read_by_shell("sh", image, tmp_path)
    assert (done.returncode, done.stderr) == (1, f"{image}: {reason}\n")
