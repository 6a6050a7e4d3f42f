"""Completion, in the shells themselves: they offer exactly what the parsers accept."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ec2_backup import commands, share
from ec2_backup.commands import completion as command
from ec2_backup.help import completion, grammar
from ec2_backup.show.display import CHOICES
from tests.unit import shells

pytestmark = pytest.mark.xdist_group("shells")  # starting one takes longer than all questions to it

Complete = Callable[[str], set[str]]

COMMANDS = {each.name for each in commands.describe()}
DIRECTORIES = {"a dir", "restored"}
FILES = {"file one", "file2"}
VOLUME = "vol-0123456789abcdef0"


@pytest.fixture(scope="module", params=completion.SHELLS)
def complete(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Complete]:
    """Ask a shell, in a directory with two directories and two files, what the last word of a line may become."""
    directory, prefix = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("prefix")
    for name in DIRECTORIES:
        (directory / name).mkdir()
    for name in FILES:
        (directory / name).touch()
    share.write(prefix)
    shell = shells.start(request.param, prefix / "share", directory)

    def offered(line: str) -> set[str]:
        found = {word.rstrip("/") for word in shell.complete(line)}
        # zsh names the options wherever nothing else can stand.
        return found if line.split(" ")[-1].startswith("-") else {word for word in found if not word.startswith("-")}

    yield offered
    shell.close()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_after_a_command_its_options_are_offered_and_no_others(complete: Complete, name: str) -> None:
    known = next(each for each in commands.describe() if each.name == name)
    long = {option for option in grammar.names(known.options) if option.startswith("--")}
    assert complete(f"ec2-backup {name} --") == long
    assert complete(f"ec2-backup {name} -") == set(grammar.names(known.options))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("", COMMANDS | DIRECTORIES),
        ("rest", {"restore", "restored"}),
        ("clean", {"cleanup"}),
        ("--region eu-west-1 rest", {"restore", "restored"}),
        ("-e ec2_backup_name=x clean", {"cleanup"}),
        ("--region=eu-west-1 --json clean", {"cleanup"}),
        ("backup ", DIRECTORIES),
        ("backup rest", {"restored"}),
        ("-- rest", {"restored"}),
        ("--one-file-system rest", {"restored"}),
        ("--exclude restore rest", {"restored"}),
        (f"restore {VOLUME} ", DIRECTORIES),
        (f"restore --force {VOLUME} rest", {"restored"}),
        (f"restore --path etc/passwd {VOLUME} ", DIRECTORIES),
        (f"restore --path=etc/passwd {VOLUME} ", DIRECTORIES),
        (f"--region eu-west-1 restore {VOLUME} ", DIRECTORIES),
        ("help ", COMMANDS),
        ("help cl", {"cleanup"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_where_a_command_or_a_directory_can_stand_it_is_offered(
    complete: Complete, line: str, offered: set[str]
) -> None:
    assert complete(f"ec2-backup {line}") == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("--progress ", set(CHOICES)),
        ("--progress=", set(CHOICES)),
        ("list --progress al", {"always"}),
        ("list --progress=al", {"always"}),
        ("--exclude-from file", FILES),
        ("--exclude-from=file", FILES),
        ("restore --identity file", FILES),
        ("--config file", FILES),
        ("verify --against ", DIRECTORIES),
        ("verify --against=rest", {"restored"}),
    ],
)
def test_after_an_option_its_values_are_offered(complete: Complete, line: str, offered: set[str]) -> None:
    assert complete(f"ec2-backup {line}") == offered


@pytest.mark.parametrize(
    "line",
    [
        "-v ",
        "restore ",
        "verify ",
        f"verify {VOLUME} ",
        f"restore {VOLUME} restored ",
        "restore --path ",
        "cleanup ",
        "cleanup --run-id ",
        "list ",
        "list --source ",
        "--exclude ",
        "--compress=",
        "/srv ",
        "restore --progress=x",
        "-- -",
    ],
)
def test_where_nothing_can_be_known_nothing_is_offered(complete: Complete, line: str) -> None:
    assert complete(f"ec2-backup {line}") == set()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_code_for_bash_passes_shellcheck(tmp_path: Path) -> None:
    share.write(tmp_path)
    script = tmp_path / share.COMPLETIONS["bash"]
    subprocess.run(["shellcheck", "--shell=bash", str(script)], check=True)


def test_a_choice_that_a_shell_would_interpret_is_refused() -> None:
    with pytest.raises(ValueError, match="a shell may misunderstand"):
        completion.values(grammar.Operand("WHEN", ("now", "$(later)"), required=True, repeats=False, help=""))


@pytest.mark.parametrize("name", completion.SHELLS)
def test_the_command_prints_what_an_installation_has(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share.write(tmp_path)
    assert command.main([name]) == 0
    assert capsys.readouterr().out == (tmp_path / share.COMPLETIONS[name]).read_text()
