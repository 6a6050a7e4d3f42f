# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The length of a directory's archive, computed without reading file data.

Runs on the host whose directory is saved: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import stat
import subprocess
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Iterable, Iterator, Sequence

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import TarLog, tar_arguments, tar_failure
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import (
    RECORD_BYTES,
    TAR_BLOCK,
    clean_environment,
    unquote,
)


def round_up(number: int, unit: int) -> int:
    """Return the smallest multiple of ``unit`` that is not below ``number``."""
    return -(-number // unit) * unit


def sparse_saving(size: int, regions: Iterable[tuple[int, int]], name_bytes: int) -> int:
    """Return the least number of bytes by which --sparse shortens the archive of one file with holes.

    GNU sparse format 1.0: a map of decimal numbers, one a line, padded to a block; each region, padded to a block; and
    records in the extended header, for which their greatest length is assumed (the exact one depends on which of them
    would
    be there anyway).

    :param size: the file's, in bytes.
    :param regions: the (offset, length) that hold data.
    :param name_bytes: the length of its name.
    """
    map_bytes, data, count, end = 0, 0, 0, 0
    for offset, length in regions:
        count += 1
        map_bytes += len(str(offset)) + len(str(length)) + 2
        data += round_up(length, TAR_BLOCK)
        end = offset + length
    if end < size:  # a hole at the end is recorded as an empty region
        count += 1
        map_bytes += len(str(size)) + 3
    map_bytes += len(str(count)) + 1
    header = TAR_BLOCK + round_up(140 + name_bytes, TAR_BLOCK)
    return max(0, round_up(size, TAR_BLOCK) - (header + round_up(map_bytes, TAR_BLOCK) + data))


def data_regions(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the parts of an open file that are not holes.

    :raises OSError: the file cannot be searched for holes.
    """
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == 6:  # ENXIO: no more data
                return
            raise
        offset = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        yield start, offset - start


def holes_saved(directory: str, names: Iterable[bytes]) -> int:
    """Return by how many bytes the holes of sparse files shorten the archive of ``directory``, never too many.

    A file that cannot be read counts as one without holes.

    :param names: the files in the archive, as tar prints them, one a line.
    """
    saved = 0
    links: set[tuple[int, int]] = set()
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for line in names:
            if line.endswith(b"/\n"):
                continue
            name = unquote(line[:-1])
            try:
                status = os.stat(name, dir_fd=top, follow_symlinks=False)
                if status.st_blocks * 512 >= status.st_size or not stat.S_ISREG(status.st_mode):
                    continue
                if status.st_nlink > 1:  # archived once
                    if (status.st_dev, status.st_ino) in links:
                        continue
                    links.add((status.st_dev, status.st_ino))
                saved += _file_saving(name, top, status.st_size)
            except OSError:
                continue
    finally:
        os.close(top)
    return saved


def _file_saving(name: bytes, top: int, size: int) -> int:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=top)
    try:
        return sparse_saving(size, data_regions(descriptor, size), len(name))
    finally:
        os.close(descriptor)


def measure(directory: str, selection: Sequence[str] = ()) -> tuple[int, TarLog]:
    """Return the length in bytes of the archive of ``directory``, and tar's messages. No file data is read.

    The length is exact for a directory that does not change, with two exceptions: for each file with holes it can be
    some hundred bytes too high (never too low), and files that cannot be read are counted.

    :param selection: as for ``tar_arguments``.
    :raises SourceError: the directory cannot be archived.
    """
    log = TarLog()
    tar = subprocess.Popen(
        tar_arguments(directory, "/dev/null", measuring=True, selection=selection),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(os.environ),
    )
    with tar:
        assert tar.stdout is not None
        assert tar.stderr is not None

        def read_messages(stderr: IO[bytes]) -> None:
            for line in stderr:
                log.feed(line.decode("utf-8", "replace").rstrip("\n"))

        reader = threading.Thread(target=read_messages, args=(tar.stderr,), daemon=True)
        reader.start()
        try:
            saved = holes_saved(directory, tar.stdout)
        except OSError as error:
            tar.kill()
            raise SourceError(f"{directory}: {error.strerror}") from None
        reader.join()
    reason = tar_failure(tar.returncode, log)
    if reason is None and log.total is None:
        reason = "tar did not print its total"
    if reason is not None or log.total is None:
        raise SourceError(f"{directory} cannot be archived: {reason}")
    return round_up(log.total - saved, RECORD_BYTES), log
