"""The product under test: this checkout, or a copy of it with a planted bug that the campaign must find."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

LEFT_OUT = (".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "tests", "dist", "build")
NOTHING = "---\n- name: Do nothing\n  ansible.builtin.meta: noop\n"


def without_cleanup(copy: Path) -> None:
    """Plant: nothing is removed. The play's `always` terminates no instance, and the cleanup playbook does nothing."""
    _empty(copy / "roles" / "instance" / "tasks" / "terminate.yml")
    without_supervision(copy)


def without_supervision(copy: Path) -> None:
    """Plant: only the play's `always` cleans up, which does not run after a signal."""
    _empty(copy / "roles" / "cleanup" / "tasks" / "main.yml")


def _empty(tasks: Path) -> None:
    if not tasks.is_file():
        raise FileNotFoundError(f"{tasks}: the tasks that this plant is to replace have moved")
    tasks.write_text(NOTHING)


PLANTS: dict[str, Callable[[Path], None]] = {
    "cleanup-disabled": without_cleanup,
    "supervision-disabled": without_supervision,
}


@contextlib.contextmanager
def ready(product: Path, plant: str | None) -> Iterator[Path]:
    """The directory of what is to be tested: the product itself, or a scratch copy of it with a bug."""
    if not plant:
        yield product
        return
    with tempfile.TemporaryDirectory(prefix="ec2-faults-planted-") as name:
        copy = Path(name) / "product"
        shutil.copytree(product, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        PLANTS[plant](copy)
        make_shadow(copy)
        yield copy


def make_shadow(copy: Path) -> None:
    """Make a copy of the checkout importable as the collection: below a directory for PYTHONPATH and Ansible."""
    namespace = copy / ".shadow" / "ansible_collections" / "ec2_backup"
    namespace.mkdir(parents=True)
    (namespace / "ebs").symlink_to("../../..")
