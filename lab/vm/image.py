"""The machine image of virtual instances: built once from Debian's packages, kept by a hash of its recipe.

`recipe/` makes it; here is only what surrounds that: the cache, its lock, and what a person is told.
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
"""Debian 12: of all releases the most like Amazon Linux 2023, with its kernel (6.1), systemd (252), cloud-init (22)."""
RECIPE = Path(__file__).parent / "recipe"
PROGRAMS = {"mmdebstrap": "mmdebstrap", "sfdisk": "fdisk", "mke2fs": "e2fsprogs"}
ROOTLESS = {"fakeroot": "fakeroot", "newuidmap": "uidmap"}

Say = Callable[[str], None]


class ImageError(Exception):
    """There is no image and none can be made; the text is one line that says what to do."""


@dataclass(frozen=True)
class Built:
    """An image for a direct boot. Never write to `disk`: it is what every instance's overlay stands on."""

    directory: Path
    kernel: Path
    initrd: Path
    disk: Path
    """Raw, 8 GiB, sparse: a GPT with one ext4 partition."""
    root: str
    """What follows `root=` on the kernel's command line; the same on NVMe and on virtio disks."""


def ensure(say: Say, environ: Mapping[str, str] = os.environ) -> Built:
    """The image, built if the cache has none of this recipe; `say` gets a line when that takes its time.

    Needs the network for that. Whoever comes second waits for the first. Raises ImageError.
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
    """Where images are kept: EC2_LAB_CACHE's, or the user's cache's (XDG Base Directory Specification)."""
    cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home(), ".cache")
    return Path(environ.get("EC2_LAB_CACHE") or Path(cache, "ec2-lab")).absolute() / "images"


def recipe_hash(recipe: Path, release: str) -> str:
    """What tells one image from another: 16 digits that change with any file of the recipe, its mode, its name, or the
    Debian release."""
    digest = hashlib.sha256(release.encode())
    for path in sorted(recipe.rglob("*")):
        if path.is_file():
            runs = os.access(path, os.X_OK)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"\0{path.relative_to(recipe)}\0{runs:d}\0{content}".encode())
    return digest.hexdigest()[:16]


def missing(path: str, *, root: bool) -> str:
    """What this machine lacks for building, as one line; empty if nothing."""
    lacking = environment.lacking(PROGRAMS if root else PROGRAMS | ROOTLESS, path)
    return lacking and f"cannot build the image of virtual machines: {lacking}"


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[int]:
    """Hold the lock; the value is its descriptor."""
    # The file stays: were it removed, two could hold "the" lock, one of them on a file without a name.
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab that is building the image")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _build(directory: Path, lock: int, say: Say, environ: Mapping[str, str]) -> None:
    """Build beside `directory` and put it there as a whole. The caller holds the lock."""
    path = environment.system_path(environ.get("PATH", ""))
    lack = missing(path, root=os.geteuid() == 0)
    if lack:
        raise ImageError(lack)
    say(f"building the image of virtual machines in {directory}, once: some minutes")
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
    partial.mkdir()
    try:
        command = [str(RECIPE / "build"), RELEASE, str(partial)]
        built = subprocess.run(
            command,
            env={**environ, "PATH": path},
            pass_fds=(lock,),  # should we be killed: nobody builds there while this build's processes live
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if built.returncode:
            log = directory.with_suffix(".log")
            log.write_text(built.stdout)
            raise ImageError(f"cannot build the image of virtual machines: {_last(built.stdout)} (all of it: {log})")
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    directory.with_suffix(".log").unlink(missing_ok=True)


def _last(output: str) -> str:
    """The line of a build's output that is most likely to say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]  # apt's and mmdebstrap's; the first is the cause
    return (errors or lines[-1:] or ["it said nothing"])[0].removeprefix("E: ")


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
