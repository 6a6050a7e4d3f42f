"""Volumes as backups, older tools and accidents leave them, written without a run: a detached volume is a file."""

import dataclasses
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format import manifest
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import archive
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import clean_environment
from tests.integration.conftest import Lab

GIB = 1 << 30
ROT13 = "tr A-Za-z N-ZA-Mn-za-m"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROT13 = bytes.maketrans(_LETTERS, _LETTERS[13:26] + _LETTERS[:13] + _LETTERS[39:] + _LETTERS[26:39])


@dataclasses.dataclass
class Image:
    """What is on a volume, and what a command must print about it."""

    first: bytes
    """Its first bytes."""
    last: bytes = b""
    """Its last bytes, or those before ``end``."""
    words: str = ""
    """Why it can be neither restored nor verified; empty if it is good."""
    gib: int = 1
    """Its size."""
    end: int = GIB
    """Where its end was when the backup was made."""

    def write(self, lab: Lab) -> str:
        """Make a volume of it in a lab; return its ID."""
        volume = lab.make_volume(self.gib)
        with lab.image(volume).open("r+b") as file:
            file.write(self.first)
            file.seek(self.end - len(self.last))
            file.write(self.last)
        return volume


def small(root: Path) -> Path:
    """Make a directory of some files, one of them longer than the pieces that the stream is read in."""
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "a file").write_text("a")
    (root / "sub" / "big").write_bytes(os.urandom(3_000_000))
    (root / "sub" / "deeper" / "file").write_text("deep")
    (root / "link").symlink_to("sub/big")
    return root


def tar(source: Path) -> bytes:
    """Return the archive of a directory, as a backup sends it."""
    environment = clean_environment(os.environ)
    return subprocess.run(
        archive.tar_arguments(str(source), "-"), capture_output=True, check=True, env=environment
    ).stdout


def block(stream: bytes, stored: bytes | None = None, size: int = GIB, **filters: Any) -> bytes:
    """Return the manifest's block for a stream, and for what is stored of it, on a volume of ``size`` bytes."""
    document = manifest.complete(
        run_id="20260102t030405z-01234567",
        host="web1",
        path="/srv/data",
        stream_bytes=len(stream),
        stream_sha256=hashlib.sha256(stream).hexdigest(),
        stored_bytes=len(stream if stored is None else stored),
        volume_bytes=size,
        started="2026-01-02T03:04:05Z",
        finished="2026-01-02T03:04:06Z",
        version="0.1.0",
        **filters,
    )
    return manifest.pad(manifest.encode(document))


def interrupted() -> bytes:
    """Return the block of a volume on which a stream was begun and not finished."""
    started = "2026-01-02T03:04:05Z"
    document = manifest.writing(run_id="r", host="web1", path="/srv/data", started=started, version="0.1.0")
    return manifest.pad(manifest.encode(document))


def flip(data: bytes, offset: int) -> bytes:
    """Return the data with one bit changed."""
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def good(source: Path) -> dict[str, Image]:
    """Return backups of a directory that are read without further options."""
    stream = tar(source)
    zipped = gzip.compress(stream, 1)
    stored = gzip.compress(zipped, 1)
    return {
        "unfiltered": Image(stream, block(stream)),
        "enlarged": Image(zipped, block(zipped, local_filter="gzip -n"), gib=2),
        "filtered-twice": Image(stored, block(zipped, stored, local_filter="gzip -1", remote_filter="gzip -n")),
    }


def bad(source: Path) -> dict[str, Image]:
    """Return backups of a directory that were damaged in several ways."""
    stream = tar(source)
    last = block(stream)
    content = stream.index((source / "sub" / "big").read_bytes()) + 1_000_000
    text = last.index(b"\n") + 1  # the checksum ends before it
    other_digit = b"1" if last[text - 9 : text - 8] == b"0" else b"0"
    newer = b"EC2-BACKUP MANIFEST 2 " + last.removeprefix(b"EC2-BACKUP MANIFEST 1 ")
    wrong = "the manifest at the volume's end is damaged: its checksum is wrong"
    misspelt = "the manifest at the volume's end is damaged: its first words are wrong"
    lost = "its manifest is lost, though a backup of ours begins on it"
    return {
        "data": Image(flip(stream, content), last, "the data on it is not what was"),
        "json": Image(stream, flip(last, text + 100), wrong),
        "checksum": Image(stream, last[: text - 9] + other_digit + last[text - 8 :], wrong),
        "magic": Image(stream, flip(last, 3), misspelt),
        # The first GiB of a volume of two.
        "manifest-zeroed-or-cut-off": Image(stream, b"", lost),
        "newer": Image(stream, newer, "has format version 2, and this ec2-backup knows none above 1"),
        "interrupted": Image(stream, interrupted(), "it holds no complete backup: the one of web1:/srv/data, begun at"),
    }


def stale(source: Path) -> Image:
    """Return a volume that was enlarged, written again, and then lost its newer manifest: the older one is found."""
    return Image(tar(source), block(bytes(1 << 20)), "the data on it is not what was", gib=2)


def rot13(source: Path) -> Image:
    """Return a backup that went through a filter whose inverse is not known."""
    stream = tar(source).translate(_ROT13)
    words = f"it went through the local filter `{ROT13}`, and how that is undone has to be given with -l"
    return Image(stream, block(stream, local_filter=ROT13, local_inverse="rm -rf /"), words)


def plain(source: Path) -> Image:
    """Return what an older tool left: what a bare tar makes of the directory, in blocks as GNU tar's are by default."""
    stream = subprocess.run(["tar", "-cf", "-", "-C", source, "."], capture_output=True, check=True).stdout
    return Image(stream)


def hostile(outside: Path) -> Image:
    """Return an archive that tries in several ways to write ``outside`` of where it is unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"evil") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o644
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            out.addfile(member, io.BytesIO(data))

        add("./honest", data=b"good")
        add("../" * 20 + str(outside)[1:] + "/dots")
        add("../beside")
        add(f"{outside}/absolute")
        add("./out", tarfile.SYMTYPE, str(outside))
        add("./out/through-link")
        add("./up", tarfile.SYMTYPE, "..")
        add("./up/through-up")
        add("./hard", tarfile.LNKTYPE, f"{outside}/secret")
        add("./hard")
        add("./chained", tarfile.LNKTYPE, "./out/secret")
        add("./chained")
    stream = buffer.getvalue()
    return Image(stream, block(stream), "the archive tried to leave the target")
