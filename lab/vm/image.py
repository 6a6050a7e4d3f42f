# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine image of virtual instances: built once from Debian's packages, and stored under a hash of its recipe.

``recipe/build`` builds it; this module has the cache, its lock and the messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.common import environment

RELEASE = "bookworm"
"""Debian 12, the release closest to Amazon Linux 2023: it has the same kernel (6.1), systemd (252), cloud-init (22)."""
RECIPE = Path(__file__).parent / "recipe"
PROGRAMS = {"mmdebstrap": "mmdebstrap", "sfdisk": "fdisk", "mke2fs": "e2fsprogs"}
ROOTLESS = {"fakeroot": "fakeroot", "newuidmap": "uidmap"}

Say = Callable[[str], None]


class ImageError(Exception):
    """There is no image and it cannot be built; the text is one line that says why."""


@dataclass(frozen=True)
class Built:
    """An image, booted by its kernel directly.

    :ivar disk: never write to it: each instance's root disk is an overlay on it.
    """

    directory: Path
    kernel: Path
    initrd: Path
    disk: Path
    """Raw, 8 GiB, sparse: a GPT with one ext4 partition."""
    root: str
    """The value of ``root=`` on the kernel's command line; the same for NVMe and virtio disks."""


def ensure(say: Say, environ: Mapping[str, str] = os.environ) -> Built:
    """Return the image of this recipe. Builds it if it is not in the cache, which takes minutes and needs the network.

    :param say: called with a line before it builds, or waits for another process that does.
    :raises ImageError: there is no image and it cannot be built.
    """
    store = images(environ)
    name = recipe_hash(RECIPE, RELEASE)
    directory = store / name
    if directory.is_dir():
        return _read(directory)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _lock(store / f"{name}.lock", say) as lock:
            if not directory.is_dir():
                _build(directory, lock, say, environ)
    except OSError as error:
        raise ImageError(f"cannot build the image of virtual machines in {store}: {error}") from error
    return _read(directory)


def images(environ: Mapping[str, str]) -> Path:
    """Return the directory of images, in EC2_LAB_CACHE or the user's cache (XDG Base Directory Specification)."""
    cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home(), ".cache")
    return Path(environ.get("EC2_LAB_CACHE") or Path(cache, "ec2-lab")).absolute() / "images"


def recipe_hash(recipe: Path, release: str) -> str:
    """Return a hash of 16 digits of the recipe's files (names, contents, executable bits) and of the Debian release."""
    digest = hashlib.sha256(release.encode())
    for path in sorted(recipe.rglob("*")):
        if path.is_file():
            runs = os.access(path, os.X_OK)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"\0{path.relative_to(recipe)}\0{runs:d}\0{content}".encode())
    return digest.hexdigest()[:16]


def missing(path: str, *, root: bool) -> str:
    """Return a message with the programs that are missing for a build, in one line; empty if none is."""
    lacking = environment.lacking(PROGRAMS if root else PROGRAMS | ROOTLESS, path)
    return lacking and f"cannot build the image of virtual machines: {lacking}"


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[int]:
    """Hold a lock on a file while in this context, which has its descriptor."""
    # Never remove the file: one process could then hold a lock on the removed file, and another on a new one.
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab that is building the image")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _build(directory: Path, lock: int, say: Say, environ: Mapping[str, str]) -> None:
    """Build in another directory and rename it to ``directory``. The caller holds the lock.

    :raises ImageError: it cannot be built.
    """
    path = environment.system_path(environ.get("PATH", ""))
    lack = missing(path, root=os.geteuid() == 0)
    if lack:
        raise ImageError(lack)
    say(f"building the image of virtual machines in {directory}; this is done once and takes some minutes")
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a build that was killed
    partial.mkdir()
    try:
        command = [str(RECIPE / "build"), RELEASE, str(partial)]
        built = subprocess.run(
            command,
            env={**environ, "PATH": path},
            pass_fds=(lock,),  # if this process is killed, the lock is held until the build has ended
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if built.returncode:
            log = directory.with_suffix(".log")
            log.write_text(built.stdout)
            raise ImageError(f"cannot build the image of virtual machines: {_cause(built.stdout)} (log: {log})")
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    directory.with_suffix(".log").unlink(missing_ok=True)


def _cause(output: str) -> str:
    """Return the line of a build's output that most likely says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]  # apt's and mmdebstrap's; the first is the cause
    return (errors or lines[-1:] or ["no output"])[0].removeprefix("E: ")


def _read(directory: Path) -> Built:
    return Built(
        directory,
        directory / "kernel",
        directory / "initrd",
        directory / "disk",
        (directory / "root").read_text().strip(),
    )


def main() -> int:
    """Build the image and print its directory."""
    try:
        built = ensure(lambda line: print(f"image: {line}", file=sys.stderr))
    except ImageError as error:
        print(f"image: error: {error}", file=sys.stderr)
        return 69
    print(built.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
