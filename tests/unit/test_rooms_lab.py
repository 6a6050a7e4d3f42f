"""Which parts of the lab may import which, and that no imports form a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "common": set(),
    "process": {"common"},
    "api": {"common"},
    "vm": {"common", "api"},
    "": {"common", "process", "api", "vm"},
}
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.glob("lab/**/*.py")}


def imports(name):
    """The lab's modules that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return (found & set(MODULES)) - {name}


def room(name):
    return name.split(".")[1] if name.count(".") == 2 else ""


def test_every_module_is_in_a_room():
    assert {room(name) for name in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_its_own_room_and_those_below(name):
    assert {room(other) for other in imports(name)} <= MAY_IMPORT[room(name)] | {room(name)}


def test_no_module_imports_itself_through_others():
    TopologicalSorter({name: imports(name) for name in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("tree", ["ec2_backup", "plugins"])
def test_the_product_imports_nothing_of_the_lab(tree):
    for path in (ROOT / tree).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.partition(".")[0] == "lab"], path
