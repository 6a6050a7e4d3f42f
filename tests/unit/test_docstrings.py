# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each source file has the header, and all docstrings are written in one way: what errors there are is in fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("plugins", "ec2_backup", "lab")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
HEADER = (
    "# Copyright: (c) 2026, the ec2-backup developers\n"
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
)

WRONG = {
    "the markup of ansible-doc": re.compile(r"\b[BCEILMOPRUV]\([a-zA-Z]"),
    "errors in running text, not as :raises ERROR: when": re.compile(r"\bRaises? (?:an? )?[A-Z`]"),
    "arguments in running text, not as :param name: what": re.compile(r"(?:^|[.;]\s+)``\w+``:\s", re.MULTILINE),
    "a name in single backticks": re.compile(r"(?<!`)`[^`\n]+`(?!`)"),
    "a field that is not known": re.compile(r"^\s*:(?!(?:param|ivar|raises) \w+: |returns: )\w+[^`\n]*:", re.MULTILINE),
}


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where each docstring is, and its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text is not None:
                yield f"{path.relative_to(ROOT)}:{node.body[0].lineno}", text


def mistakes(text: str) -> list[str]:
    """Return what is wrong with a docstring."""
    found = [what for what, pattern in WRONG.items() if pattern.search(text)]
    if re.match(r":|https?:", text):
        found.append("no first sentence")
    return found


def test_each_source_file_begins_with_the_header() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES}
    assert len(texts) > 100
    # Ansible wants a module to begin with this line.
    assert [
        name for name, text in texts.items() if not text.removeprefix("#!/usr/bin/python\n").startswith(HEADER)
    ] == []


def test_all_docstrings_are_written_in_one_way() -> None:
    found = [(where, wrong) for path in FILES for where, text in docstrings(path) for wrong in mistakes(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "Return what C(present) would.",
        "Return the policy. Raises SettingsError.",
        "Return the policy.\n\n``name``: the file.",
        "Return the policy. ``a``: the file; ``name``: another one.",
        "Return the policy `name`.",
        "Return the policy.\n\n:parameter name: the file.",
        ":param name: the file.",
    ],
)
def test_a_docstring_that_is_written_otherwise_is_found(text: str) -> None:
    assert len(mistakes(text)) == 1


def test_a_docstring_with_fields_is_right() -> None:
    text = "Return ``name``.\n\n:param name: the file.\n:returns: its text.\n:raises OSError: it cannot be read.\n"
    assert mistakes(text) == []
