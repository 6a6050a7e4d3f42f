# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Another revision of this repository, ready to run beside this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
COLLECTION = Path("ansible_collections", "ec2_backup", "ebs")


class GitError(Exception):
    """What git says in one line."""


def git(*arguments: str) -> str:
    """Run git in this checkout; return what it prints.

    :raises GitError: it failed, or there is no git.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise GitError("git was not found: install it, or compare without BASE") from None
    if done.returncode != 0:
        raise GitError((done.stderr.strip().splitlines() or [f"git ended with status {done.returncode}"])[-1])
    return done.stdout.strip()


def _link_all(source: Path, target: Path, *but: str) -> None:
    """Make a directory of symbolic links to all that is in another one, but for some names."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name not in but:
            (target / entry.name).symlink_to(entry)


def copy_environment(source: Path, checkout: Path) -> Path:
    """Make a virtual environment for a checkout out of another checkout's, and return its Python.

    Nothing is installed: the packages are symbolic links. What names the other checkout is made anew: the scripts'
    first lines, the .pth file by which the package ``ec2_backup`` is found, and the link to the collection.

    :param source: the other checkout's .venv, as tools/setup made it.
    """
    target, old, new = checkout / ".venv", str(source.parent), str(checkout)
    (library,) = (source / "lib").glob("python3*/site-packages")
    packages = target / library.relative_to(source)
    _link_all(library, packages, "ansible_collections", "_ec2_backup.pth")
    _link_all(library / "ansible_collections", packages / "ansible_collections", "ec2_backup")
    (packages / COLLECTION).parent.mkdir()
    (packages / COLLECTION).symlink_to(checkout)
    (packages / "_ec2_backup.pth").write_text(f"{checkout}\n")
    (target / "pyvenv.cfg").write_text((source / "pyvenv.cfg").read_text().replace(old, new))
    (target / "bin").mkdir()
    for program in (source / "bin").iterdir():
        copy = target / "bin" / program.name
        with program.open("rb") as file:
            is_script = not program.is_symlink() and file.read(2) == b"#!"
        if is_script:
            copy.write_text(program.read_text().replace(old, new))
            copy.chmod(0o755)
        else:
            copy.symlink_to(os.readlink(program) if program.is_symlink() else program)
    return target / "bin" / "python"


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out into a temporary worktree with a virtual environment; remove it at the end.

    :raises GitError: there is no such revision, or it cannot be checked out.
    """
    try:
        commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except GitError:
        git("rev-parse", "--git-dir")  # says why, if it is not the revision
        raise GitError(f"there is no revision {revision!r} in {CHECKOUT}") from None
    parent = Path(tempfile.mkdtemp(prefix="ec2-backup-bench-")).resolve()
    checkout = parent / "checkout"
    try:
        git("worktree", "add", "--quiet", "--detach", str(checkout), commit)
        copy_environment(CHECKOUT / ".venv", checkout)
        yield checkout
    finally:
        shutil.rmtree(parent, ignore_errors=True)
        with contextlib.suppress(GitError):
            git("worktree", "prune")
