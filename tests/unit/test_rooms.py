# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rooms: which directory may import from which. Read from the sources alone; nothing is imported."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECTION = "ansible_collections.ec2_backup.ebs"
# Trees whose files are imported by their path; those of plugins/ are imported below the collection's name.
PACKAGES = ("ec2_backup", "lab")
UTILS = "plugins/module_utils"

# In the standard library of our Python, but not in that of 3.8, which a host may have.
YOUNGER_THAN_3_8 = {"graphlib", "tomllib", "zoneinfo"}
STANDARD = set(sys.stdlib_module_names) - YOUNGER_THAN_3_8
AMAZON = "ansible_collections.amazon"


@dataclasses.dataclass(frozen=True)
class Room:
    """What the files of a directory may import.

    ``rooms``: other rooms; a room's own files are always allowed. ``others``: top-level packages that are not ours;
    None for all.
    """

    rooms: Sequence[str] = ()
    others: frozenset[str] | None = None


ON_HOSTS = frozenset(STANDARD)
# amazon.aws and boto3, and the helpers of Ansible for their answers, are on the controller only.
ON_CONTROLLER = frozenset(STANDARD | {"ansible", "boto3", "botocore", AMAZON})

# What all of the wrapper uses, from the bottom: the version, then the statuses and lines, then the rest.
VERSION, STATUS = "ec2_backup/__init__.py", "ec2_backup/status.py"
BASE = ("ec2_backup", STATUS, VERSION)
# All that the wrapper's program is made of, for the files in which it begins.
WRAPPER = (*BASE, *(f"ec2_backup/{name}" for name in ("commands", "arguments", "help", "run", "show")))

# Each room with those below it. The longest name that a file's path begins with is its room.
ROOMS = {
    UTILS: Room((), ON_HOSTS),
    f"{UTILS}/_format": Room((UTILS,), ON_HOSTS),
    f"{UTILS}/_device": Room((UTILS, f"{UTILS}/_format"), ON_HOSTS),
    f"{UTILS}/_host": Room((UTILS, f"{UTILS}/_format", f"{UTILS}/_device"), ON_HOSTS),
    f"{UTILS}/_account": Room((UTILS, f"{UTILS}/_format"), ON_CONTROLLER),
    "plugins/plugin_utils": Room((UTILS,)),
    "plugins": Room(
        (
            "plugins/plugin_utils",
            *(UTILS, f"{UTILS}/_format", f"{UTILS}/_device", f"{UTILS}/_host", f"{UTILS}/_account"),
        )
    ),
    # The wrapper, from the inner rooms to the outer ones. A file may be a room of its own.
    VERSION: Room(),
    STATUS: Room((VERSION, UTILS)),
    "ec2_backup": Room((STATUS, VERSION, UTILS)),
    "ec2_backup/run": Room((*BASE, UTILS, f"{UTILS}/_format")),
    "ec2_backup/show": Room((*BASE, "ec2_backup/run", UTILS, f"{UTILS}/_format")),
    "ec2_backup/arguments": Room((*BASE, "ec2_backup/run", "ec2_backup/show", UTILS, f"{UTILS}/_format")),
    "ec2_backup/help": Room(BASE),
    "ec2_backup/commands": Room(
        (
            *BASE,
            *(f"ec2_backup/{name}" for name in ("run", "show", "arguments", "help")),
            *(UTILS, f"{UTILS}/_format", f"{UTILS}/_host", f"{UTILS}/_account"),
        )
    ),
    # Where the program begins: in the top directory, but above all rooms.
    "ec2_backup/cli.py": Room(WRAPPER),
    "ec2_backup/share.py": Room((*WRAPPER, "ec2_backup/cli.py")),
    "ec2_backup/__main__.py": Room((*WRAPPER, "ec2_backup/cli.py", "ec2_backup/share.py")),
    # The lab and the product know nothing of each other.
    "lab/common": Room(),
    "lab/process": Room(("lab/common",)),
    "lab/api": Room(("lab/common",)),
    "lab/vm": Room(("lab/common", "lab/api")),
    "lab": Room(("lab/common", "lab/process", "lab/api", "lab/vm")),
}

Graph = Mapping[Path, Mapping[Path | str, int]]  # file: what it imports (a file of ours, or a package): the line


def _names(tree: ast.AST, package: str) -> Iterator[tuple[list[str], int]]:
    """Yield the possible modules of each import, the likeliest first, and its line. Those in functions count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield [alias.name], node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield [f"{base}.{alias.name}", base], node.lineno


def _dotted(path: Path) -> str:
    """Return the name by which the file at ``path`` (relative to the checkout) is imported."""
    parts = path.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return name if parts[0] in PACKAGES else f"{COLLECTION}.{name}"


def read(root: Path) -> Graph:
    """Return what each Python file of the plugins, the wrapper and the lab below ``root`` imports."""
    tops = ("plugins", *PACKAGES)
    files = [path.relative_to(root) for top in tops for path in sorted((root / top).rglob("*.py"))]
    known = {_dotted(path): path for path in files}
    graph: dict[Path, dict[Path | str, int]] = {}
    for path in files:
        package = _dotted(path) if path.name == "__init__.py" else _dotted(path).rpartition(".")[0]
        imported: dict[Path | str, int] = {}
        for names, line in _names(ast.parse((root / path).read_text()), package):
            ours = next((known[name] for name in names if name in known), None)
            if ours is None and names[-1].startswith((COLLECTION, *(f"{package}." for package in PACKAGES))):
                continue  # a directory without __init__.py
            foreign = AMAZON if names[0].startswith(AMAZON) else names[0].partition(".")[0]
            imported.setdefault(ours or foreign, line)
        imported.pop(path, None)
        graph[path] = imported
    return graph


def room(path: Path) -> str:
    """Return the name of a file's room."""
    return max((name for name in ROOMS if path.is_relative_to(name)), key=len)


def trespasses(graph: Graph) -> list[str]:
    """Return the imports that ROOMS does not allow, each as ``FILE:LINE: imports WHAT``."""
    found = []
    for path, imported in graph.items():
        its = ROOMS[room(path)]
        for what, line in imported.items():
            if isinstance(what, str):
                allowed = its.others is None or what in its.others
            else:
                allowed = room(what) in (room(path), *its.rooms)
            if not allowed:
                found.append(f"{path}:{line}: imports {what}")
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Return the files that import one another, directly or through others: a list for each circle."""
    reached: dict[Path, set[Path]] = {}
    for start in graph:
        seen: set[Path] = set()
        pending = [start]
        while pending:
            for what in graph[pending.pop()]:
                if isinstance(what, Path) and what not in seen:
                    seen.add(what)
                    pending.append(what)
        reached[start] = seen
    found = {
        tuple(sorted(str(other) for other in reached[path] if path in reached[other]))
        for path in graph
        if path in reached[path]
    }
    return [list(files) for files in sorted(found)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read(ROOT)


def test_every_file_imports_from_the_rooms_that_it_may_import_from(graph):
    assert trespasses(graph) == []


def test_no_files_import_one_another_in_a_circle(graph):
    assert circles(graph) == []


def test_no_module_needs_both_a_host_and_the_account(graph):
    """Modules of the data path run on hosts, which have neither boto3 nor credentials."""
    both = []
    for path, imported in graph.items():
        rooms = {room(what) for what in imported if isinstance(what, Path)}
        packages = {what for what in imported if isinstance(what, str)}
        on_host = rooms & {f"{UTILS}/_host", f"{UTILS}/_device"}
        if on_host and (f"{UTILS}/_account" in rooms or packages & {"boto3", "botocore", AMAZON}):
            both.append(str(path))
    # Filters run on the controller, and all of them are in one file.
    assert both == ["plugins/filter/plan.py"]


def test_every_room_has_its_files(graph):
    """A room that was moved must not pass because nothing is in it any more."""
    assert {room(path) for path in graph} == set(ROOMS)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_directory_of_a_package_is_a_room(graph, package):
    directories = {path.parent.as_posix() for path in graph if path.parts[0] == package}
    assert directories <= set(ROOMS)


# ---- the checker, on a tree that is made up -------------------------------------------------------------------------

FOUND = f"from {COLLECTION}.plugins.module_utils."
WRONG = {
    "a host's file imports boto3": ("_host/send.py", "import boto3\n"),
    "a host's file imports Ansible": ("_host/send.py", "from ansible.module_utils.basic import AnsibleModule\n"),
    "a host's file imports amazon.aws": (
        "_host/send.py",
        "from ansible_collections.amazon.aws.plugins import modules\n",
    ),
    "a host's file imports what Python 3.8 lacks": ("_host/send.py", "import tomllib\n"),
    "a host's file imports the account": ("_host/send.py", FOUND + "_account.errors import error_code\n"),
    "a host's file imports the account's room": ("_host/send.py", FOUND + "_account import errors\n"),
    "the device imports from the host": ("_device/find.py", FOUND + "_host.send import send\n"),
    "the format imports from the device": ("_format/manifest.py", FOUND + "_device import find\n"),
    "the top imports from the format": ("meter.py", FOUND + "_format import manifest\n"),
    "a function imports the account": ("_host/send.py", "def f():\n    " + FOUND + "_account import errors\n"),
    "an import is relative": ("_device/find.py", "from .._host import send\n"),
    "an import is relative to a package": ("_device/__init__.py", "from .._host.send import send\n"),
    "utilities import a module": ("_account/errors.py", f"from {COLLECTION}.plugins.modules import ssh_wait\n"),
    "utilities import the wrapper": ("meter.py", "from ec2_backup import status\n"),
}
MADE_UP = {
    **dict.fromkeys(("meter.py", *(f"_{room}/__init__.py" for room in ("account", "device", "format", "host"))), ""),
    "_account/errors.py": "import botocore\nfrom ansible.module_utils import basic\n",
    "_device/find.py": "import shlex\n" + FOUND + "_format import manifest\n",
    "_format/manifest.py": "import json\n" + FOUND + "meter import encode\n",
    "_host/send.py": FOUND + "_device.find import FIND\n" + FOUND + "meter import encode\n",
    "../modules/ssh_wait.py": "from ansible.module_utils.basic import AnsibleModule\n" + FOUND + "_host import send\n",
    "../../ec2_backup/status.py": "import rich\n",
    "../../ec2_backup/cli.py": "from ec2_backup.status import say\n",
    "../../ec2_backup/show/report.py": "from ec2_backup import status\n",
}


def make(root: Path, files: Mapping[str, str]) -> Graph:
    """Write files, named as seen from module_utils, and read the tree."""
    for name, text in files.items():
        path = (root / UTILS).joinpath(name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(root)


def test_a_tree_in_order_passes(tmp_path):
    (tmp_path / UTILS).mkdir(parents=True)
    graph = make(tmp_path, MADE_UP)
    assert (trespasses(graph), circles(graph)) == ([], [])
    assert room(Path(UTILS, "_host", "send.py")) == f"{UTILS}/_host"


@pytest.mark.parametrize("what", WRONG)
def test_the_checker_finds_that(tmp_path, what):
    (tmp_path / UTILS).mkdir(parents=True)
    name, text = WRONG[what]
    found = trespasses(make(tmp_path, {**MADE_UP, name: text}))
    assert len(found) == 1, found
    assert found[0].startswith(f"{UTILS}/{name}:")


def test_the_checker_finds_that_an_inner_room_of_the_wrapper_imports_an_outer_one(tmp_path):
    (tmp_path / UTILS).mkdir(parents=True)
    changed = {"../../ec2_backup/run/guard.py": "from ec2_backup.show import report\n"}
    assert trespasses(make(tmp_path, {**MADE_UP, **changed})) == [
        "ec2_backup/run/guard.py:1: imports ec2_backup/show/report.py"
    ]


def test_the_checker_finds_that_a_file_imports_the_programs_beginning(tmp_path):
    (tmp_path / UTILS).mkdir(parents=True)
    changed = {"../../ec2_backup/show/report.py": "from ec2_backup.cli import main\n"}
    assert trespasses(make(tmp_path, {**MADE_UP, **changed})) == [
        "ec2_backup/show/report.py:1: imports ec2_backup/cli.py"
    ]


def test_the_checker_finds_a_circle_and_who_is_in_it(tmp_path):
    (tmp_path / UTILS).mkdir(parents=True)
    changed = {
        "_host/a.py": FOUND + "_host import b\n",
        "_host/b.py": "def f():\n    " + FOUND + "_host.c import x\n",
        "_host/c.py": "from .a import x\n",
        "_host/d.py": FOUND + "_host.a import x\n",
    }
    assert circles(make(tmp_path, {**MADE_UP, **changed})) == [[f"{UTILS}/_host/{name}.py" for name in "abc"]]


def test_the_checker_finds_that_the_product_and_the_lab_import_each_other(tmp_path):
    (tmp_path / UTILS).mkdir(parents=True)
    changed = {
        "../../lab/__init__.py": "",
        "../../lab/vm/__init__.py": "from ..process import init\n",
        "../../lab/process/__init__.py": "",
        "../../lab/process/init.py": "from ec2_backup import status\n",
        "../../ec2_backup/show/report.py": "import lab.vm\n",
    }
    assert sorted(trespasses(make(tmp_path, {**MADE_UP, **changed}))) == [
        "ec2_backup/show/report.py:1: imports lab/vm/__init__.py",
        "lab/process/init.py:1: imports ec2_backup/status.py",
        "lab/vm/__init__.py:1: imports lab/process/init.py",
    ]
