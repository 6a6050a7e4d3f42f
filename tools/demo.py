#!/usr/bin/env python3
"""A demonstration of the main job: back a directory up, recover it by hand, compare. Runs inside `lab/run`.

    lab/run tools/demo.py [DIR]

The exit status is 0 only if the copy equals the source and nothing but the volume is left.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import boto3

MIB = 1024 * 1024
# Large enough to show something, small enough to finish soon.
FEWEST_FILES, MOST_FILES, MOST_BYTES = 1000, 20_000, 256 * MIB


class Size(NamedTuple):
    """What a directory holds: files that are not directories, and bytes of regular files."""

    files: int
    bytes: int


def say(text: str) -> None:
    """Print one line, and flush it, so that it comes before the output of a child."""
    print(text, flush=True)


def die(text: str) -> NoReturn:
    """Exit with status 1 and one line on stderr."""
    sys.exit(f"demo: error: {text}")


def sizes(directory: Path) -> Iterator[Size]:
    """Yield the running total after each directory below, so that a caller may stop early."""
    files = total = 0
    for parent, _directories, names in os.walk(directory):
        for name in names:
            info = os.lstat(os.path.join(parent, name))
            files += 1
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
        yield Size(files, total)


def measure(directory: Path) -> Size:
    """Return the total of a directory."""
    return max(sizes(directory), default=Size(0, 0))


def suits(directory: Path) -> bool:
    """Tell whether a directory has some thousand files and not too many bytes, without reading all of a huge one."""
    size = Size(0, 0)
    for size in sizes(directory):
        if size.files > MOST_FILES or size.bytes > MOST_BYTES:
            return False
    return size.files >= FEWEST_FILES


def choose(candidates: Iterable[Path]) -> Path:
    """Return the first directory that suits; on a slim image some of them are empty."""
    for candidate in candidates:
        if candidate.is_dir() and suits(candidate):
            return candidate
    die("no directory of a demo's size found on this machine; name one: make demo DIR=/some/dir")


def candidates() -> list[Path]:
    """Directories that nearly every machine has; the last one comes with the Python that runs this."""
    names = ("/usr/share/doc", "/usr/share/zoneinfo", "/usr/share/locale", "/usr/share", "/usr/lib/python3", "/etc")
    stdlib = sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})
    return [*map(Path, names), Path(stdlib)]


def back_up(directory: Path) -> str:
    """Run the product and return the one line it prints: the volume's ID."""
    command = ["ec2-backup", str(directory)]
    say(f"$ {shlex.join(command)}")
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        die(f"ec2-backup ended with status {done.returncode}")
    lines = done.stdout.splitlines()
    if len(lines) != 1 or not lines[0].startswith("vol-"):
        die(f"ec2-backup must print a volume ID and nothing else on stdout; it printed {done.stdout!r}")
    say(f"  {time.monotonic() - begun:.1f} s\n")
    return lines[0]


def recover(device: Path, destination: Path) -> None:
    """Read the volume back with nothing but dd and tar."""
    dd = ["dd", f"if={device}", "bs=1M", "status=none"]
    tar = ["tar", "--extract", "--numeric-owner", "--same-permissions", "--acls", "--xattrs", "--xattrs-include=*"]
    tar += ["--directory", str(destination)]
    say("Recovering by hand, from the volume's raw bytes:")
    say(f"$ {shlex.join(dd)} | {shlex.join(tar)}")
    with subprocess.Popen(dd, stdout=subprocess.PIPE) as reader:
        unpacked = subprocess.run(tar, stdin=reader.stdout, check=False).returncode
    # tar is done at the archive's end; dd, still reading, may then die of SIGPIPE.
    if unpacked != 0:
        die(f"tar could not unpack the volume (status {unpacked})")


def differences(source: Path, copy: Path) -> list[str]:
    """Return what an independent tool finds different: bytes, modes, owners, times, links, ACLs, xattrs, names."""
    command = ["rsync", "-naicHAX", "--numeric-ids", "--delete", f"{source}/", f"{copy}/"]
    say(f"$ {shlex.join(command)}")
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, errors="surrogateescape", check=False)
    if found.returncode != 0:
        die(f"rsync could not compare (status {found.returncode})")
    return [line for line in found.stdout.splitlines() if not is_socket(source, line)]


def is_socket(source: Path, line: str) -> bool:
    """Tell whether a line of rsync -i is about a socket, which tar does not archive."""
    try:
        return line[:2] == "cS" and (source / line[12:]).is_socket()
    except OSError:
        return False


def show_api_state(volume: str, patience: float = 60.0) -> None:
    """Print what EC2 says is left; die unless every instance is terminated and the volume available."""
    ec2 = boto3.client("ec2")
    deadline = time.monotonic() + patience
    while True:
        reservations = ec2.describe_instances()["Reservations"]
        instances = {i["InstanceId"]: i["State"]["Name"] for r in reservations for i in r["Instances"]}
        volumes = {v["VolumeId"]: v["State"] for v in ec2.describe_volumes()["Volumes"]}
        good = set(instances.values()) == {"terminated"} and volumes == {volume: "available"}
        if good or time.monotonic() > deadline:
            break
        time.sleep(0.5)  # the interval of a poll, not a guess at how long it takes
    say("What EC2 says is left:")
    for name, state in {**instances, **volumes}.items():
        say(f"  {name}  {state}")
    if not good:
        die("only the volume should be left, available, and every instance terminated")


def main() -> None:
    """Back up, recover, compare, and show what is left."""
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    state = os.environ.get("EC2_LAB_STATE") or die("no lab here; run: lab/run tools/demo.py [DIR]")
    source = Path(sys.argv[1]) if len(sys.argv) == 2 else choose(candidates())
    volume = back_up(source)
    with tempfile.TemporaryDirectory(prefix="ec2-backup-demo-") as destination:
        recover(Path(state, "volumes", f"{volume}.img"), Path(destination))
        found = differences(source, Path(destination))
        if found:
            print(*found[:20], sep="\n")
            die(f"the recovered copy differs from {source} in {len(found)} places")
        size = measure(Path(destination))
        say(f"identical: {size.files} files, {size.bytes} bytes\n")
    show_api_state(volume)


if __name__ == "__main__":
    main()
