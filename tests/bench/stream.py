#!/usr/bin/env python3
# Copyright (c) 2026 the ec2-backup authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream module against the same pipeline by hand: `tar -b 2048 | ssh -c aes128-gcm | dd bs=1M direct fsync`.

Over an sshd of its own on the loopback, onto a loop device on a file in memory, with data that does not compress. The
two take turns, so that a machine that slows down slows down both. Needs root. Prints one line a run, then the medians
and the least.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULE = "ansible_collections.ec2_backup.ebs.plugins.modules.stream_send"
MIB = 1024 * 1024


@contextlib.contextmanager
def sshd(directory: Path) -> Iterator[list[str]]:
    """Run an sshd that lets in this user with a key of its own; yield the ssh argv that reaches it."""
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    (directory / "authorized").write_text((directory / "client.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "authorized",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "UsePAM": "no",
        "PidFile": "none",
    }
    arguments = [argument for item in options.items() for argument in ("-o", f"{item[0]}={item[1]}")]
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *arguments], stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            if server.poll() is not None:
                raise RuntimeError("sshd did not start")
        client = [
            "-i",
            str(directory / "client"),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        quiet = ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "Ciphers=aes128-gcm@openssh.com"]
        yield ["ssh", "-F", "none", *client, *quiet, "-p", str(port), "root@127.0.0.1"]
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def loop_device(image: Path, size: int) -> Iterator[str]:
    """Yield a loop device on a fresh sparse file."""
    with image.open("wb") as file:
        file.truncate(size)
    device = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def fill(directory: Path, mebibytes: int) -> None:
    """Write random data: files of 64 MiB, and some hundred small ones."""
    directory.mkdir()
    for number in range(max(1, mebibytes // 64)):
        with (directory / f"large{number}").open("wb") as file:
            for _ in range(min(64, mebibytes)):
                file.write(os.urandom(MIB))
    for number in range(500):
        (directory / f"small{number}").write_bytes(os.urandom(3000))


class Peak(threading.Thread):
    """Watches a process and its descendants; keeps the highest resident size of each name, in MiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.done = pid, threading.Event()
        self.highest: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.3):
            pending = [self.pid]
            while pending:
                pid = pending.pop()
                with contextlib.suppress(OSError):
                    pending += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                    name, peak = status["Name"].strip(), int(status.get("VmHWM", "0 kB").split()[0]) / 1024
                    self.highest[name] = max(peak, self.highest.get(name, 0))


def by_hand(ssh: list[str], source: Path, device: str) -> tuple[float, str]:
    """Run the pipeline in a shell; return seconds and nothing to add."""
    remote = f"dd of={device} bs=1M iflag=fullblock oflag=direct conv=fsync"
    pipeline = f"set -o pipefail; tar -C {source} -b 2048 -cf - . | {shlex.join([*ssh, remote])}"
    start = time.monotonic()
    subprocess.run(["bash", "-c", pipeline], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - start, ""


def run_module(name: str, asked: dict[str, Any], arguments: Path) -> tuple[float, str]:
    """Run a module as Ansible does; return the seconds of its stream, and its peak memory."""
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": asked}))
    start = time.monotonic()
    module = subprocess.Popen([sys.executable, "-m", name, str(arguments)], stdout=subprocess.PIPE)
    peak = Peak(module.pid)
    out, _ = module.communicate()
    wall = time.monotonic() - start
    peak.done.set()
    result = json.loads(out)
    if result.get("failed"):
        raise RuntimeError(result["msg"])
    memory = ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in sorted(peak.highest.items()))
    return float(result["seconds"]), f"whole module {wall:.2f} s; peak MiB: {memory}"


def by_module(ssh: list[str], source: Path, device: str, size: int, arguments: Path) -> tuple[float, str]:
    """Run the sending module; return as ``run_module``."""
    asked: dict[str, Any] = {
        "ssh": ssh,
        "path": str(source),
        "volume_id": "vol-0",
        "volume_size": size,
        "run_id": "bench",
        "host": "bench",
        "device_exact": device,
        "force": True,
    }
    return run_module(MODULE, asked, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", default="/dev/shm", help="where source and volume go; needs twice the size")
    asked = parser.parse_args()
    size = (asked.mebibytes + 256) * MIB
    with tempfile.TemporaryDirectory(dir=asked.directory, prefix="ec2-backup-bench-") as name:
        directory = Path(name)
        source = directory / "source"
        fill(source, asked.mebibytes)
        seconds: dict[str, list[float]] = {"by hand": [], "module": []}
        with sshd(directory) as ssh, loop_device(directory / "volume", size) as device:
            by_hand(ssh, source, device)  # once to allocate the file's pages
            for _ in range(asked.runs):
                for kind in seconds:
                    if kind == "module":
                        took, remark = by_module(ssh, source, device, size, directory / "arguments")
                    else:
                        took, remark = by_hand(ssh, source, device)
                    seconds[kind].append(took)
                    print(f"{kind:8} {took:7.2f} s {asked.mebibytes / took:7.0f} MiB/s  {remark}", flush=True)
    # On a machine that has other work to do, the least is what tells more.
    for name, pick in (("median", statistics.median), ("least", min)):
        hand, module = pick(seconds["by hand"]), pick(seconds["module"])
        print(f"{name:8} by hand {hand:.2f} s, module {module:.2f} s: ratio {module / hand:.3f}")


if __name__ == "__main__":
    main()
