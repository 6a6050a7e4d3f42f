"""Help, man pages, and their installation: all of it made from the parsers."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ec2_backup import __version__, cli, commands, share
from ec2_backup.help import grammar, manual
from ec2_backup.status import Status
from tools import hatch_build

ROOT = Path(__file__).parents[2]
PAGES = manual.pages(commands.describe())
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
WORKING = [name for name in commands.COMMANDS if name not in grammar.ONLY_PRINT]


def parser(command: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    made = commands.module(command).parser()
    assert isinstance(made, argparse.ArgumentParser)
    return made


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints that only prints."""
    with contextlib.suppress(SystemExit):  # that is how --help and --version end
        assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return str(out)


# ---- help -----------------------------------------------------------------------------------------------------------


def test_help_lists_each_command_on_a_line_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "help").splitlines()
    for command in commands.COMMANDS:
        assert [line for line in lines if re.match(rf"  {command}  +[A-Z][\w ,-]+$", line)]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_help_tells_about_a_command_what_its_option_does(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = told(capsys, "help", command)
    assert text == told(capsys, command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()  # whatever the locale is


@pytest.mark.parametrize("words", [[], *([command] for command in commands.COMMANDS)])
def test_every_command_tells_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, *words, "--version") == f"ec2-backup {__version__}\n"


def test_help_about_a_command_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "restor"]) == Status.USAGE
    assert "restor" in capsys.readouterr().err


def test_help_prints_the_source_of_a_man_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "help", "--man", "restore") == PAGES["ec2-backup-restore"]
    assert told(capsys, "help", "--man") == PAGES["ec2-backup"]


# ---- what is read from the parsers ----------------------------------------------------------------------------------


def test_options_are_read_with_all_their_properties() -> None:
    made = argparse.ArgumentParser(
        "x", description="Do it,\n  all of it. Twice.", epilog="examples:\n  x a\n\nThe end.\n"
    )
    made.add_argument("one", help="the first")
    made.add_argument("rest", metavar="REST", nargs="*")
    group = made.add_argument_group("more", "of it")
    group.add_argument("-a", "--all", action="append", metavar="IT", help="take %(metavar)s of %(prog)s")
    group.add_argument("--when", choices=["now", "then"], default="now", help="default: %(default)s")
    made.add_argument("--secret", help=argparse.SUPPRESS)
    command = grammar.read("x", made)
    assert command.summary == "Do it, all of it"
    assert [(operand.argument, operand.required, operand.repeats) for operand in command.operands] == [
        ("ONE", True, False),
        ("REST", False, True),
    ]
    assert command.groups[0].title == ""
    assert command.groups[1] == grammar.Group(
        "more",
        "of it",
        (
            grammar.Option(("-a", "--all"), "IT", (), True, "take IT of x"),
            grammar.Option(("--when",), "WHEN", ("now", "then"), False, "default: now"),
        ),
    )
    assert "--secret" not in grammar.names(command.options)
    assert command.sections == (grammar.Section("examples", "  x a"), grammar.Section("", "The end."))


# ---- man pages ------------------------------------------------------------------------------------------------------


def unescaped(source: str) -> str:
    """The text of a page's source, as far as the names of options and their values are concerned."""
    return re.sub(r"\\[&%]", "", source).replace(r"\-", "-")


@pytest.mark.parametrize("command", commands.COMMANDS)
@pytest.mark.parametrize("main", [False, True])
def test_a_page_has_every_option_and_argument_of_its_parser(command: str, main: bool) -> None:
    if main and command != grammar.DEFAULT:
        return
    page = PAGES["ec2-backup" if main else f"ec2-backup-{command}"]
    items = [line for line in unescaped(page).splitlines() if line.startswith(".It ")]
    for action in parser(command)._actions:
        for option in action.option_strings:
            assert [item for item in items if f" Fl {option[1:]} " in f"{item} "], option
        if not action.option_strings:
            assert [item for item in items if f" Ar {action.metavar} " in f"{item} "], action.metavar
        for choice in action.choices or () if action.option_strings else ():
            assert [item for item in items if re.search(rf"(Cm|\|) {choice}( |$)", item)], choice


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_its_sections_in_the_order_that_readers_expect(page: str) -> None:
    sections = re.findall(r"^\.Sh (.*)", PAGES[page], re.MULTILINE)
    assert [section for section in sections if section in SECTIONS] == SECTIONS
    if page.removeprefix("ec2-backup-") in WORKING:
        after = sections[sections.index("OPTIONS") + 1 :]
        assert after[:3] == ["ENVIRONMENT", "FILES", "EXIT STATUS"]


def test_the_main_page_refers_to_each_command() -> None:
    assert set(re.findall(r"\.It Xr ec2-backup-(\S+) 1", PAGES["ec2-backup"])) == set(commands.COMMANDS)


def test_every_command_has_its_exit_status_told() -> None:
    assert manual.STATUSES.keys() == commands.COMMANDS.keys()
    assert manual.STATUSES["backup"].keys() == {*(str(int(status)) for status in Status), "128+N"}


def test_every_variable_of_the_environment_that_is_read_is_told() -> None:
    code = "".join(path.read_text() for path in (ROOT / "ec2_backup").rglob("*.py"))
    read = set(re.findall(r"""environ(?:ment)?(?:\.get\(|\[)["']((?:EC2_BACKUP|XDG)_\w+)["']""", code))
    assert read >= {"EC2_BACKUP_FLAGS_AWS", "EC2_BACKUP_VERBOSE", "XDG_STATE_HOME"}
    assert read <= set(", ".join(manual.ENVIRONMENT).split(", "))


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_gives_no_warnings(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed (tools/setup installs it)")
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning"], input=PAGES[page], capture_output=True, text=True, check=False
    )
    assert (lint.stdout, lint.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("formatter", [["groff", "-mandoc", "-Tutf8", "-ww", "-P-cbou"], ["mandoc", "-T", "utf8"]])
def test_a_page_looks_as_it_should(formatter: list[str], page: str) -> None:
    if shutil.which(formatter[0]) is None:
        pytest.skip(f"{formatter[0]} is not installed (tools/setup installs it)")
    done = subprocess.run(formatter, input=PAGES[page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    text = re.sub(".\b", "", done.stdout)  # mandoc has bold and underline as on paper
    command = page.removeprefix("ec2-backup-") if page != "ec2-backup" else grammar.DEFAULT
    # Copied out of the page, it works: the dashes are those of ASCII.
    for option in parser(command)._option_string_actions:
        assert re.search(rf"^ +(-h, )?{option}([ ,]|$)", text, re.MULTILINE), option
    assert "\\" not in text


def test_a_help_text_cannot_become_a_macro() -> None:
    made = argparse.ArgumentParser("x", description=".Sh ATTACK")
    made.add_argument("--a", metavar="Fl", help=r"'quoted' \fBbold\fP. No \n(.x … -1")
    page = manual.pages([grammar.read("backup", made)])["ec2-backup"].splitlines()
    assert r"\&.Sh ATTACK" in page
    assert r".It Fl \-a Ar \&Fl" in page
    assert r"\(aqquoted\(aq \efBbold\efP." in page
    assert r"No \en(.x \[u2026] \%\-1" in page


# ---- what an installation has ---------------------------------------------------------------------------------------


def test_it_is_built_with_nothing_but_python(tmp_path: Path) -> None:
    prefix = hatch_build.share(ROOT, __version__, tmp_path)
    built = {str(path.relative_to(prefix)): path.read_text() for path in prefix.rglob("*") if path.is_file()}
    assert built == dict(share.files())
    assert {f"share/man/man1/{page}.1" for page in PAGES} < built.keys()
