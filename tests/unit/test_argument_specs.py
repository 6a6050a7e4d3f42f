"""Every role says what it takes, once: argument specs, defaults and READMEs are held to each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(p for p in (Path(__file__).parents[2] / "roles").iterdir() if p.is_dir())
TYPES = {"bool", "dict", "float", "int", "list", "path", "raw", "str"}


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; an absent or empty file is an empty one."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(specs: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (entry point, option name, option) of the specs."""
    for entry, spec in (specs.get("argument_specs") or {}).items():
        for name, option in (spec.get("options") or {}).items():
            yield entry, name, option or {}


def option_problems(where: str, name: str, option: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one option by itself, and with those inside it."""
    if option.get("type") not in TYPES:
        yield f"{where}: {name} needs a type"
    if not option.get("description"):
        yield f"{where}: {name} needs a description"
    if option.get("required") and "default" in option:
        yield f"{where}: {name} is required and has a default"
    for inner, inside in (option.get("options") or {}).items():
        yield from option_problems(where, f"{name}.{inner}", inside)


def spec_problems(specs: dict[str, Any], defaults: dict[str, Any], readme: str) -> list[str]:
    """Return one line for each way in which a role's specs, defaults and README disagree."""
    problems: list[str] = []
    seen: set[str] = set()
    for entry, name, option in options(specs):
        seen.add(name)
        problems += option_problems(entry, name, option)
        if not name.startswith("ec2_backup_"):
            problems.append(f"{entry}: {name} must begin with ec2_backup_")
        if name not in readme:
            problems.append(f"{entry}: {name} is not in README.md")
        if option.get("required") and name in defaults:
            problems.append(f"{entry}: {name} is required, yet defaults/main.yml gives it a value")
        if not option.get("required") and name not in defaults:
            problems.append(f"{entry}: {name} is optional, yet not in defaults/main.yml")
        if "default" in option and name in defaults and option["default"] != defaults[name]:
            problems.append(f"{entry}: {name} is {option['default']!r} in the spec, {defaults[name]!r} in the defaults")
    problems += [f"defaults/main.yml: {name} is in no argument spec" for name in defaults if name not in seen]
    return problems


def role_problems(role: Path) -> list[str]:
    """Return one line for each thing that a role lacks or contradicts itself in."""
    specs = load(role / "meta/argument_specs.yml")
    entries = specs.get("argument_specs") or {}
    readme = (role / "README.md").read_text() if (role / "README.md").exists() else ""
    tasks = {p.stem for p in (role / "tasks").glob("*.yml")}

    problems = [] if readme else ["README.md is missing"]
    if not load(role / "meta/main.yml").get("galaxy_info"):
        problems.append("meta/main.yml with galaxy_info is missing")
    if not entries:
        problems.append("meta/argument_specs.yml is missing or empty")
    if not tasks:
        problems.append("tasks/ has no entry point")
    problems += [f"argument_specs.yml: {entry} has no tasks/{entry}.yml" for entry in entries if entry not in tasks]
    problems += [
        f"{entry}: needs a short_description" for entry, s in entries.items() if not s.get("short_description")
    ]
    return problems + spec_problems(specs, load(role / "defaults/main.yml"), readme)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_says_the_same_in_its_specs_its_defaults_and_its_readme(role: Path) -> None:
    problems = role_problems(role)
    assert not problems, "\n".join(["", *problems])


def test_there_are_roles_to_check() -> None:
    assert ROLES


def option(**changes: Any) -> dict[str, Any]:
    """Return a sound option of the planted role, with changes."""
    return {"type": "str", "description": "The type of the volume.", "default": "gp3", **changes}


def plant(role: Path, spec: dict[str, Any], defaults: dict[str, Any], readme: str = "`ec2_backup_type`") -> list[str]:
    """Write a role of one option, and return what the check says about it."""
    files: dict[str, Any] = {
        "meta/main.yml": {"galaxy_info": {"author": "x"}},
        "meta/argument_specs.yml": {"argument_specs": {"main": {"short_description": "x", "options": spec}}},
        "defaults/main.yml": defaults,
        "tasks/main.yml": [],
    }
    for name, content in files.items():
        (role / name).parent.mkdir(parents=True, exist_ok=True)
        (role / name).write_text(yaml.safe_dump(content))
    (role / "README.md").write_text(readme)
    return role_problems(role)


def test_a_sound_role_has_no_problems(tmp_path: Path) -> None:
    assert plant(tmp_path, {"ec2_backup_type": option()}, {"ec2_backup_type": "gp3"}) == []


@pytest.mark.parametrize(
    ("spec", "defaults", "said"),
    [
        ({"ec2_backup_type": option()}, {"ec2_backup_type": "gp2"}, "'gp3' in the spec, 'gp2' in the defaults"),
        ({"ec2_backup_type": option()}, {}, "not in defaults"),
        (
            {"ec2_backup_type": option()},
            {"ec2_backup_type": "gp3", "ec2_backup_x": 1},
            "ec2_backup_x is in no argument",
        ),
        ({"ec2_backup_type": option(type=None)}, {"ec2_backup_type": "gp3"}, "needs a type"),
        ({"ec2_backup_type": option(description="")}, {"ec2_backup_type": "gp3"}, "needs a description"),
        ({"ec2_backup_type": option(required=True)}, {}, "is required and has a default"),
        ({"type": option()}, {"type": "gp3"}, "must begin with ec2_backup_"),
        ({"ec2_backup_new": option()}, {"ec2_backup_new": "gp3"}, "is not in README.md"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_mismatch_is_found(tmp_path: Path, spec: dict[str, Any], defaults: dict[str, Any], said: str) -> None:
    assert [problem for problem in plant(tmp_path, spec, defaults) if said in problem]


def test_a_role_that_lacks_everything_is_told_so(tmp_path: Path) -> None:
    problems = "\n".join(role_problems(tmp_path))
    for missing in ("README.md", "galaxy_info", "argument_specs.yml", "entry point"):
        assert missing in problems
