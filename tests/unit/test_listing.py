"""The command list, without running a playbook."""

import io
import json
import os
from typing import Any

import pytest

from ec2_backup import cli
from ec2_backup.commands.listing import age, cells, shorten, table
from ec2_backup.run import supervise
from ec2_backup.run.outcome import Outcome
from ec2_backup.show.progress import binary
from tests.unit.entries import entry

INTERRUPTED = entry(
    volume_id="vol-1",
    source_host=None,
    source_path="/srv/a long path",
    state="interrupted",
    bytes=None,
    finished=None,
    age_seconds=None,
    size_gib=1000,
    price_per_month=None,
)


@pytest.fixture
def ran(monkeypatch):
    """Replace the playbook by one that ended as the test says; return what it was asked for."""
    asked: dict[str, Any] = {"outcome": Outcome(rc=0), "entries": []}

    class Fake:
        def __init__(self, name, variables, run_id):
            asked.update(name=name, variables=variables)

        def run(self, observer):
            asked["outcome"].results = {"ec2_backup_catalog": asked["entries"]}
            return asked["outcome"]

    monkeypatch.setattr(supervise, "Playbook", Fake)
    for name in ("EC2_BACKUP_FLAGS_AWS", "EC2_BACKUP_FLAGS_SSH", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    return asked


TABLE = """\
VOLUME                 SOURCE                SIZE  ARCHIVE  FINISHED (UTC)    AGE  ZONE        STATE        USD/MONTH
vol-0123456789abcdef0  web1:/srv/data       3 GiB  1.4 GiB  2026-11-20 12:00  2 d  us-east-1a  complete          0.24
vol-1                  /srv/a long path  1000 GiB        -  -                   -  us-east-1a  interrupted          -
"""


def test_a_table_has_a_header_and_aligned_columns():
    assert table([entry(), INTERRUPTED]) == TABLE.splitlines()


def test_without_backups_there_is_no_table():
    assert table([]) == []


def test_on_a_narrow_terminal_the_source_is_shortened():
    full = max(map(len, table([entry(), INTERRUPTED])))
    assert table([entry(), INTERRUPTED], full) == table([entry(), INTERRUPTED])
    narrower = table([entry(), INTERRUPTED], full - 3)
    assert {len(line) for line in narrower} == {full - 3}
    assert "  /srv/a…g path  " in narrower[2]
    assert "  web1:/…v/data  " in narrower[1]
    assert {len(line) for line in table([entry(), INTERRUPTED], 20)} == {full - 16 + 12}
    assert table([entry(source_path="/a")], 20) == table([entry(source_path="/a")])


def test_wide_and_combining_characters_are_counted_as_a_terminal_shows_them():
    lines = table([entry(source_path="/写真"), entry(source_path="/e\N{COMBINING ACUTE ACCENT}tudes")])
    assert len({cells(line) for line in lines}) == 1
    assert shorten("写真写真写真", 7) == "写…写真"
    assert shorten("写真写真", 8) == "写真写真"


def test_nothing_in_a_tag_reaches_the_terminal_as_a_command():
    (_, line) = table([entry(source_path="/srv/\x1b[2J\n/x")])
    assert "web1:/srv/?[2J?/x" in line


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1500000000, "1.4 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_bytes_are_shown_in_binary_units(count, shown):
    assert binary(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (86399, "23 h"), (86400 * 400, "400 d")],
)
def test_an_age_is_shown_in_its_largest_unit(seconds, shown):
    assert age(seconds) == shown


def test_the_table_is_all_there_is_on_stdout(ran, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # no terminal: nothing is shortened
    ran["entries"] = [entry(), INTERRUPTED]
    assert cli.main(["list"]) == 0
    assert capsys.readouterr() == ("\n".join(table(ran["entries"])) + "\n", "")
    assert (ran["name"], ran["variables"]) == ("list", {})


def test_on_a_terminal_the_table_fits_it(ran, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    ran["entries"] = [entry(source_path="/x" * 50)]
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.setattr("sys.stdout", screen)
    assert cli.main(["list"]) == 0
    assert {len(line) for line in screen.getvalue().splitlines()} == {130}
    assert "…" in screen.getvalue()


def test_a_terminal_without_the_characters_gets_question_marks(ran, monkeypatch):
    raw = io.BytesIO()
    ran["entries"] = [entry(source_path="/é…")]
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    assert cli.main(["list"]) == 0
    assert "web1:/é?".encode("latin-1") in raw.getvalue()


def test_json_is_one_object(ran, capsys):
    ran["entries"] = [entry(), INTERRUPTED]
    assert cli.main(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["version"], told["volumes"]) == (1, ran["entries"])
    assert (out.count("\n"), err) == (1, "")
    ran["entries"] = []
    assert cli.main(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["volumes"], err) == ([], "")


@pytest.mark.parametrize(
    ("argv", "environment", "line"),
    [
        ([], {"AWS_REGION": "eu-west-1"}, "no backups in eu-west-1"),
        ([], {"AWS_DEFAULT_REGION": "eu-west-2"}, "no backups in eu-west-2"),
        ([], {"EC2_BACKUP_FLAGS_AWS": "--region eu-west-3"}, "no backups in eu-west-3"),
        (["-e", "ec2_backup_region=sa-east-1"], {"AWS_REGION": "eu-west-1"}, "no backups in sa-east-1"),
        ([], {}, "no backups in the configured region"),
        (["--host", "web1"], {"AWS_REGION": "eu-west-1"}, "no backups in eu-west-1 match"),
    ],
)
def test_where_there_are_no_backups_a_line_on_stderr_says_so(ran, capsys, monkeypatch, argv, environment, line):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["list", *argv]) == 0
    assert capsys.readouterr() == ("", f"ec2-backup: {line}\n")


def test_a_failure_gives_status_1_and_its_cause(ran, capsys):
    ran["outcome"] = Outcome(rc=2, failures=["Failed to describe volumes."])
    assert cli.main(["list"]) == 1
    assert capsys.readouterr() == ("", "ec2-backup: error: Failed to describe volumes.\n")


def test_arguments_become_role_variables(ran):
    cli.main(["list", "--source", "photos/", "--host", "web1", "-e", 'ec2_backup_catalog_prices={"gp3": 0.1}'])
    assert ran["variables"] == {
        "ec2_backup_catalog_source": os.path.abspath("photos"),
        "ec2_backup_catalog_host": "web1",
        "ec2_backup_catalog_prices": {"gp3": 0.1},
    }
    cli.main(["list", "--source", "*photos/"])
    assert ran["variables"] == {"ec2_backup_catalog_source": "*photos/"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--source", ""], "a path must not be empty"),
        (["vol-1"], "unrecognized arguments: vol-1"),
        (["-e", 'ec2_backup_catalog_prices={"gp3": "x"}'], "ec2_backup_catalog_prices has 'x' for gp3: give a number"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(ran, capsys, argv, message):
    assert cli.main(["list", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
