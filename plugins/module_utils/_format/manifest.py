# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest: the block at a volume's end that says what is on the volume. docs/volume-format.md is normative.

Pure functions between bytes and documents. Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping

from ansible_collections.ec2_backup.ebs.plugins.module_utils import times
from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.filters import known_inverse

BLOCK_BYTES = 65536
MAGIC = b"EC2-BACKUP MANIFEST "
VERSION = 1
TOOL = "ec2-backup"

# For tar's --pax-option: begin the archive with a global header that names us. Without the last two settings its name
# would contain TMPDIR and the process ID, and its time would be the present (seen, 1.34; a time with "@" is refused).
GLOBAL_HEADER_OPTION = "comment=ec2-backup,globexthdr.name=ec2-backup,globexthdr.mtime=0"
_COMMENT = b"comment=ec2-backup"

_TAR_BLOCK = 512
_MAXIMUM = (1 << 63) - 1
_VERSION_NUMBER = re.compile(rb"([1-9][0-9]{0,3})[ \n]")
_AFTER_MAGIC = re.compile(rb"[1-9][0-9]{0,3} ([1-9][0-9]{0,4}) ([0-9a-f]{64})\n")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_BY_HAND = "use another backup, or recover what is there by hand (docs/recover-by-hand.md)"


class ManifestError(ValueError):
    """The volume has no usable manifest; the text is one line: what happened and what to do.

    :ivar kind: ``absent`` (there is none), ``damaged`` (it must not be trusted) or ``newer`` (its format is newer than
        this version knows).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _damaged(what: str) -> ManifestError:
    return ManifestError("damaged", f"the manifest at the volume's end is damaged: {what}; {_BY_HAND}")


# ---- the document ---------------------------------------------------------------------------------------------------


def writing(*, run_id: str, host: str, path: str, started: str, version: str) -> dict[str, Any]:
    """Return the document for a volume to which a stream is being written: there is no valid backup on it.

    :param started: UTC, as in ``2026-11-22T18:45:00Z``.
    :param version: of ec2-backup.
    """
    return {
        "state": "writing",
        "run_id": run_id,
        "source": {"host": host, "path": path},
        "started": started,
        "tool": {"name": TOOL, "version": version},
    }


def complete(
    *,
    run_id: str,
    host: str,
    path: str,
    stream_bytes: int,
    stream_sha256: str,
    stored_bytes: int,
    volume_bytes: int,
    started: str,
    finished: str,
    version: str,
    warnings: int = 0,
    local_filter: str | None = None,
    remote_filter: str | None = None,
    local_inverse: str | None = None,
    remote_inverse: str | None = None,
    selection: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document of a finished backup.

    An empty filter is none.

    :param stream_bytes: the length of what was sent over SSH.
    :param stream_sha256: the SHA-256 of what was sent over SSH.
    :param stored_bytes: what is on the volume from byte 0; it differs from ``stream_bytes`` only with a remote filter.
    :param started: UTC, as in ``2026-11-22T18:45:00Z``; ``finished`` too.
    :param local_inverse: what undoes the local filter; if it is not given, the known inverse is recorded, or null.
    :param remote_inverse: the same for the remote filter.
    :param selection: what was left out (``selection.record``).
    """
    document = {
        "state": "complete",
        "run_id": run_id,
        "source": {"host": host, "path": path},
        "stream": {"bytes": stream_bytes, "sha256": stream_sha256},
        "stored": {"bytes": stored_bytes},
        "filters": {"local": _filter(local_filter, local_inverse), "remote": _filter(remote_filter, remote_inverse)},
        "started": started,
        "finished": finished,
        "warnings": warnings,
        "volume": {"bytes": volume_bytes},
        "tool": {"name": TOOL, "version": version},
    }
    return {**document, "selection": dict(selection)} if selection else document


def _filter(command: str | None, inverse: str | None) -> dict[str, Any] | None:
    return {"command": command, "inverse": inverse or known_inverse(command, "IDENTITY")} if command else None


def is_writing(document: Mapping[str, Any]) -> bool:
    """Return whether the document says that the volume is being written to: then it holds no valid backup."""
    return bool(document["state"] == "writing")


# ---- what a document must contain ----------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAXIMUM  # not isinstance: bool is a subclass of int


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.match(value) is not None


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or not _TIME.match(value):
        return False
    try:
        times.seconds(value)
    except ValueError:
        return False
    return True


def _is_filter(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not _is_text(value.get("command")) or "inverse" not in value:
        return False
    return value["inverse"] is None or _is_text(value["inverse"])


_WRITING: dict[str, Callable[[object], bool]] = {
    "run_id": _is_text,
    "source.host": _is_text,
    "source.path": _is_text,
    "started": _is_time,
    "tool.name": _is_text,
    "tool.version": _is_text,
}
_COMPLETE: dict[str, Callable[[object], bool]] = {
    **_WRITING,
    "stream.bytes": _is_count,
    "stream.sha256": _is_sha256,
    "stored.bytes": _is_count,
    "filters.local": _is_filter,
    "filters.remote": _is_filter,
    "finished": _is_time,
    "warnings": _is_count,
    "volume.bytes": _is_count,
}
_REQUIRED = {"writing": _WRITING, "complete": _COMPLETE}
_ABSENT = object()


def _lookup(document: object, name: str) -> object:
    for key in name.split("."):
        if not isinstance(document, dict) or key not in document:
            return _ABSENT
        document = document[key]
    return document


def _problem(document: object) -> str | None:
    """Return what is wrong with a document, or None. Unknown fields are ignored."""
    state = _lookup(document, "state")
    if not isinstance(state, str) or state not in _REQUIRED:
        return "its state is neither complete nor writing"
    for name, check in _REQUIRED[state].items():
        value = _lookup(document, name)
        if value is _ABSENT:
            return f"the field {name} is missing"
        if not check(value):
            return f"the field {name} has no valid value"
    if state == "complete":
        assert isinstance(document, dict)
        stored, volume = document["stored"]["bytes"], document["volume"]["bytes"]
        if stored > volume - BLOCK_BYTES:
            return f"{stored} stored bytes and the manifest do not fit on a volume of {volume} bytes"
        if document["filters"]["remote"] is None and stored != document["stream"]["bytes"]:
            return "without a remote filter, stored.bytes and stream.bytes must be equal"
    return None


# ---- the block ------------------------------------------------------------------------------------------------------


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the header line and the JSON, without the padding.

    :raises ValueError: it does not fit into the block (for example, with a filter of many thousand characters), or
        ``decode`` would not accept the document, and so the backup could not be restored.
    """
    problem = _problem(document)
    if problem is not None:
        raise ValueError(f"this cannot be a manifest: {problem}")
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    head = b"%s%d %d %s\n%s" % (MAGIC, VERSION, len(text), hashlib.sha256(text).hexdigest().encode("ascii"), text)
    if len(head) > BLOCK_BYTES:
        raise ValueError(
            f"the manifest would have {len(head)} bytes, and there is room for {BLOCK_BYTES}: "
            "put the filter's command into a script, and give the script's name"
        )
    return head


def pad(head: bytes) -> bytes:
    """Return the whole block, BLOCK_BYTES long.

    :raises ValueError: the head is longer.
    """
    if len(head) > BLOCK_BYTES:
        raise ValueError(f"{len(head)} bytes do not fit in a block of {BLOCK_BYTES}")
    return head.ljust(BLOCK_BYTES, b"\0")


def decode(block: bytes, end: int | None = None) -> dict[str, Any]:
    """Return the document of a block. Bytes behind the JSON are ignored.

    :param end: the offset in bytes at which the block ends, if it is known; a complete document must name it as its
        volume's size.
    :raises ManifestError: there is no usable manifest in the block.
    """
    if len(block) != BLOCK_BYTES:
        raise _damaged(f"{len(block)} of its {BLOCK_BYTES} bytes could be read")
    if not block.startswith(MAGIC):
        # If the rest of the line is valid, only the magic is damaged. Then an older manifest, at a former end of the
        # volume, must not be used.
        if _AFTER_MAGIC.match(block, len(MAGIC)):
            raise _damaged("its first words are wrong")
        raise ManifestError(
            "absent",
            "there is no manifest at the volume's end: either ec2-backup did not write this volume, or its end was "
            "overwritten; check that it is the right volume",
        )
    number = _VERSION_NUMBER.match(block, len(MAGIC))
    if number is not None and int(number.group(1)) > VERSION:
        raise ManifestError(
            "newer",
            f"the manifest at the volume's end has format version {int(number.group(1))}, and this ec2-backup knows "
            f"none above {VERSION}: use a newer ec2-backup",
        )
    header = _AFTER_MAGIC.match(block, len(MAGIC))
    if header is None:
        raise _damaged("its header line is malformed")
    text = block[header.end() : header.end() + int(header.group(1))]
    if len(text) != int(header.group(1)):
        raise _damaged(f"its length of {int(header.group(1))} bytes goes beyond the volume's end")
    if hashlib.sha256(text).hexdigest().encode("ascii") != header.group(2):
        raise _damaged("its checksum is wrong")
    document = _parse(text)
    problem = _problem(document)
    if problem is None and end is not None and document["state"] == "complete" and document["volume"]["bytes"] != end:
        problem = "it was written for a volume of {} bytes, and ends at byte {}".format(
            document["volume"]["bytes"], end
        )
    if problem is not None:
        raise _damaged(problem)
    return document


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets
        raise _damaged("it is not JSON") from None
    return document if isinstance(document, dict) else {}


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity are not JSON


# ---- what is at byte 0 ------------------------------------------------------------------------------------------


def is_tar(first_bytes: bytes) -> bool:
    """Return whether the first 512 bytes are a tar header, of any format, by its checksum.

    An empty archive gives False: it is nothing but NUL bytes, like an empty volume.
    """
    header = first_bytes[:_TAR_BLOCK]
    recorded = _octal(header[148:156])
    if len(header) < _TAR_BLOCK or recorded is None:
        return False
    summed = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(summed)
    # Some very old tars computed with signed bytes.
    return recorded in (unsigned, unsigned - 256 * sum(byte > 127 for byte in summed))


def is_ours(first_bytes: bytes) -> bool:
    """Return whether an archive begins with the global header of our archives. Its first 1536 bytes are enough."""
    if not is_tar(first_bytes) or first_bytes[156:157] != b"g" or first_bytes[257:263] != b"ustar\0":
        return False
    size = _octal(first_bytes[124:136]) or 0
    return _COMMENT in _records(first_bytes[_TAR_BLOCK : _TAR_BLOCK + size])


def _octal(field: bytes) -> int | None:
    digits = field.split(b"\0", 1)[0].strip(b" ")
    return int(digits, 8) if re.match(rb"[0-7]+\Z", digits) else None


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the ``keyword=value`` of each whole pax record: ``LENGTH keyword=value NEWLINE``, LENGTH of all that."""
    while data:
        found = re.match(rb"([1-9][0-9]{0,9}) ", data)
        length = int(found.group(1)) if found else 0
        if found is None or not found.end() < length <= len(data) or data[length - 1 : length] != b"\n":
            return
        yield data[found.end() : length - 1]
        data = data[length:]
