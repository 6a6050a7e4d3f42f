"""The rooms of ec2_backup: which may import which, and no circles."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ec2_backup"

# Each room may import from itself and from those before it. A name without a room is a file of the package itself.
ROOMS = ("status", "collection", "run", "show", "arguments", "help", "commands", "cli", "share", "__main__")
BASE = "__init__"  # the version


def module_of(path: Path) -> str:
    """The dotted name below the package: ``run.playbook``, ``run`` for its ``__init__``, ``__init__`` for its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ec2_backup":
            below = ".".join((node.module or "").split(".")[1:])
            for alias in node.names:
                inner = f"{below}.{alias.name}" if below else alias.name
                yield inner if inner in MODULES else below or BASE
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("ec2_backup."))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_file_imports_from_its_own_room_and_from_those_below_it(name: str) -> None:
    allowed = {BASE, *ROOMS[: ROOMS.index(name.partition(".")[0]) + 1]} if name != BASE else set()
    assert [other for other in imports(MODULES[name]) if other.partition(".")[0] not in allowed] == []


def test_no_imports_go_in_a_circle() -> None:
    order = list(
        graphlib.TopologicalSorter({name: set(imports(path)) for name, path in MODULES.items()}).static_order()
    )
    assert len(order) == len(MODULES)


def test_a_circle_is_seen() -> None:
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_every_room_is_in_the_list() -> None:
    assert {name.partition(".")[0] for name in MODULES} == {*ROOMS, BASE}
