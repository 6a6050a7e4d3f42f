"""docs/code.md names files: each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "code.md").read_text()


def test_every_file_and_module_that_the_page_names_exists():
    files = re.findall(r"`((?:roles|plugins|tests)/[\w/.]+)`", PAGE)
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).exists()] == []
    modules = re.findall(r"(?:module|by) `(\w+)`", PAGE)
    assert [name for name in modules if not (ROOT / "plugins" / "modules" / f"{name}.py").exists()] == []
