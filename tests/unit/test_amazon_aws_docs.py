"""docs/amazon-aws.md says which steps go through amazon.aws and why others do not: it is held to the code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "amazon-aws.md").read_text()
TESTS = ROOT / "tests" / "integration" / "test_amazon_aws.py"
AMAZON = re.compile(r"amazon\.aws\.(?!aws\b)(\w+)")  # not the name of the collection's action group


def section(title: str) -> str:
    """The text below a heading."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table in a section, row by row."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def there_are() -> set[str]:
    """The tests that there are."""
    return {node.name for node in ast.parse(TESTS.read_text()).body if isinstance(node, ast.FunctionDef)}


def our_modules() -> set[str]:
    """The modules of ours that call AWS."""
    modules = (ROOT / "plugins" / "modules").glob("*.py")
    return {path.stem for path in modules if "AnsibleAWSModule" in path.read_text()}


def used() -> set[str]:
    """What the roles and playbooks use of amazon.aws."""
    files = [*(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    lines = [line for path in files for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return {name for line in lines for name in AMAZON.findall(line)}


def test_each_module_of_ours_that_calls_aws_has_a_row_and_no_other_has_one():
    named = [re.findall(r"`(\w+)`", row[0]) for row in rows("By modules of our own")]
    assert sorted(name for names in named for name in names) == sorted(our_modules())


@pytest.mark.parametrize("row", rows("By modules of our own"), ids=lambda row: row[0].strip("`"))
def test_each_row_names_what_amazon_aws_does_the_tests_that_show_it_and_what_ours_does(row):
    _, theirs, shown, ours = row
    assert theirs
    assert ours
    named = set(re.findall(r"`(test_\w+)`", shown))
    assert named
    assert named <= there_are()


def test_every_test_that_is_there_is_named():
    assert set(re.findall(r"`(test_\w+)`", TEXT)) - {"test_amazon_aws_docs"} == {
        name for name in there_are() if name.startswith("test_")
    }


def test_the_steps_through_amazon_aws_name_what_the_roles_use_of_it_and_nothing_else():
    assert set(AMAZON.findall(section("Through amazon.aws"))) == used()


def test_our_modules_of_aws_are_those_that_module_defaults_know_as_a_group():
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    assert set(groups["aws"]) == our_modules()
