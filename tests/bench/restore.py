#!/usr/bin/env python3
# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restoring module against the best pipeline by hand: `ssh -c aes128-gcm dd bs=1M direct | tar -b 256 -x`.

As stream.py in the other direction: over an sshd of its own on the loopback, from a loop device on a file in memory,
into a directory in memory, with data that does not compress; the two take turns. Each target is removed before the
next one is written. Then the module's peak memory for a small and for the whole archive, and with --reads what dd
does with and without the page cache. Needs root. Run it as `python -m tests.bench.restore` in the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import tar_arguments
from tests.bench.stream import MIB, fill, loop_device, run_module, sshd

MODULE = "ansible_collections.ec2_backup.ebs.plugins.modules.stream_receive"


def pack(source: Path, device: str) -> tuple[int, str]:
    """Write the archive of a directory to the device, and remove the directory; return its length and sum."""
    tar = subprocess.Popen(tar_arguments(str(source), "-"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert tar.stdout is not None
    digest, length = hashlib.sha256(), 0
    with tar, open(device, "r+b", buffering=0) as volume:
        while piece := tar.stdout.read(MIB):
            digest.update(piece)
            length += volume.write(piece)
    if tar.returncode != 0:
        raise RuntimeError(f"tar ended with status {tar.returncode}")
    subprocess.run(["blockdev", "--flushbufs", device], check=True)
    shutil.rmtree(source)
    return length, digest.hexdigest()


def by_hand(ssh: list[str], device: str, length: int, target: Path, flags: str = "iflag=direct") -> float:
    """Run the pipeline in a shell; return seconds."""
    target.mkdir()
    remote = f"dd if={device} bs=1M count={length // MIB} {flags}"
    unpack = f"tar -C {target} -b 256 -x -p --numeric-owner --acls --xattrs --xattrs-include='*'"
    pipeline = f"set -o pipefail; {shlex.join([*ssh, remote])} | {unpack}"
    start = time.monotonic()
    done = subprocess.run(["bash", "-c", pipeline], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the pipeline by hand ended with status {done.returncode}: {done.stderr}")
    return time.monotonic() - start


def by_module(
    ssh: list[str], device: str, size: int, archive: tuple[int, str], target: Path, arguments: Path
) -> tuple[float, str]:
    """Run the receiving module; return as ``run_module``."""
    length, sha256 = archive
    asked: dict[str, Any] = {
        "ssh": ssh,
        "path": str(target),
        "volume_id": "vol-0",
        "volume_size": size,
        "device_exact": device,
        "length": length,
        "bytes": length,
        "sha256": sha256,
    }
    return run_module(MODULE, asked, arguments)


def show(kind: str, mebibytes: int, seconds: float, remark: str = "") -> None:
    print(f"{kind:8} {mebibytes:5d} MiB {seconds:7.2f} s {mebibytes / seconds:7.0f} MiB/s  {remark}", flush=True)


def measure(directory: Path, mebibytes: int, runs: int, small_files: int, reads: bool) -> dict[str, list[float]]:
    """Let the two take turns on an archive of this size; return the seconds of each."""
    size = (mebibytes + 256) * MIB + small_files * 4096
    size -= size % MIB
    seconds: dict[str, list[float]] = {"by hand": [], "module": []}
    with sshd(directory) as ssh, loop_device(directory / "volume", size) as device:
        fill(directory / "source", mebibytes)
        for number in range(small_files):
            (directory / "source" / f"{number:06d}").write_bytes(b"x" * 100)
        archive = pack(directory / "source", device)
        target = directory / "target"
        for _ in range(runs):
            for kind, taken in seconds.items():
                remark = ""
                if kind == "module":
                    took, remark = by_module(ssh, device, size, archive, target, directory / "arguments")
                else:
                    took = by_hand(ssh, device, archive[0], target)
                shutil.rmtree(target)
                taken.append(took)
                show(kind, mebibytes, took, remark)
        for flags in ("iflag=direct", "iflag=nocache", "iflag=fullblock") if reads else ():
            subprocess.run(["blockdev", "--flushbufs", device], check=True)
            took = by_hand(ssh, device, archive[0], target, flags)
            shutil.rmtree(target)
            show("by hand", mebibytes, took, flags)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=2048)
    parser.add_argument("--small-mebibytes", type=int, default=256, help="the other size, for the memory alone")
    parser.add_argument("--small-files", type=int, default=0, help="how many files of 100 bytes there are besides")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--reads", action="store_true", help="compare how dd reads, too")
    parser.add_argument("--directory", default="/dev/shm", help="where volume and target go; needs twice the size")
    asked = parser.parse_args()
    for mebibytes in (asked.small_mebibytes, asked.mebibytes):
        with tempfile.TemporaryDirectory(dir=asked.directory, prefix="ec2-backup-bench-") as name:
            runs, reads = (1, False) if mebibytes != asked.mebibytes else (asked.runs, asked.reads)
            seconds = measure(Path(name), mebibytes, runs, asked.small_files, reads)
    # On a machine that has other work to do, the least is what tells more.
    for word, pick in (("median", statistics.median), ("least", min)):
        hand, module = pick(seconds["by hand"]), pick(seconds["module"])
        print(f"{word:8} by hand {hand:.2f} s, module {module:.2f} s: ratio {module / hand:.3f}")


if __name__ == "__main__":
    main()
