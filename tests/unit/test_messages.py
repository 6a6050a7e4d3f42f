"""Every error that a user can cause: what was asked for, the exit status, the message.

Here is each refusal before Ansible is started; data/aws_errors.yml has AWS's errors as botocore, amazon.aws, EC2 and
SSM word them (provoked in the lab, or by their real texts). What only a real run shows is in tests/integration, in
test_refusals.py and test_messages.py.
"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ec2_backup import cli
from ec2_backup.commands import backup
from ec2_backup.run.outcome import Outcome
from ec2_backup.run.supervise import Supervised
from ec2_backup.show.aws_errors import CODES, reworded

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("data")
VOLUME = "vol-0123456789abcdef0"

# ---- Wrong usage: status 2, and nothing was begun -------------------------------------------------------------------

USAGE: list[tuple[list[str], dict[str, str], str]] = [
    ([], {}, "the following arguments are required: DIR (try --help)"),
    (["/srv", "/usr"], {}, "unrecognized arguments: /usr (try --help)"),
    (["--frobnicate", "/srv"], {}, "there is no option --frobnicate (try --help)"),
    (["--verbos", "/srv"], {}, "there is no option --verbos: did you mean --verbose? (try --help)"),
    (
        ["restor", VOLUME, "/x"],
        {},
        "restor is neither a command nor a directory that exists: did you mean `ec2-backup restore`? (try --help)",
    ),
    (["-v"], {}, "argument -v: expected one argument (try --help)"),
    (
        ["-v", "vol-1", "/srv"],
        {},
        "argument -v: 'vol-1' is not a volume ID: those look like vol-0123456789abcdef0 (try --help)",
    ),
    (["restore"], {}, "the following arguments are required: VOLUME (try --help)"),
    (["restore", VOLUME], {}, "the following arguments are required: TARGET (try --help)"),
    (
        ["restore", "snap-1", "/x"],
        {},
        "argument VOLUME: 'snap-1' is no ID of a volume or snapshot: those look like vol-0123456789abcdef0 and snap-…",
    ),
    (
        ["restore", "--list-files", VOLUME, "/x"],
        {},
        "with --list-files nothing is restored: leave TARGET out (try --help)",
    ),
    (
        ["restore", "--identity", "/nonexistent/key", VOLUME, "/x"],
        {},
        "argument --identity: /nonexistent/key cannot be read: No such file or directory (try --help)",
    ),
    (["verify"], {}, "the following arguments are required: VOLUME (try --help)"),
    (["verify", "i-1"], {}, "argument VOLUME: 'i-1' is no ID of a volume or snapshot"),
    (["list", "extra"], {}, "unrecognized arguments: extra (try --help)"),
    (["list", "--source", ""], {}, "argument --source: a path must not be empty (try --help)"),
    (
        ["list", "-e", 'ec2_backup_catalog_prices={"gp3": "much"}'],
        {},
        "ec2_backup_catalog_prices has 'much' for gp3: give a number, in USD per month.",
    ),
    (["cleanup", "--run-id"], {}, "argument --run-id: expected one argument (try --help)"),
    (["--progress=often", "/srv"], {}, "argument --progress: invalid choice: 'often' (choose from "),
    (["help", "frob"], {}, "argument COMMAND: invalid choice: 'frob' (choose from "),
    (["completion", "tcsh"], {}, "argument SHELL: invalid choice: 'tcsh' (choose from "),
    (["--config", "/nonexistent", "/srv"], {}, "the configuration file /nonexistent cannot be read: No such file"),
    (["-e", "path=x", "/srv"], {}, "argument -e: 'path=x' is not of the form ec2_backup_NAME=VALUE (try --help)"),
    (["-e", "ec2_backup_tags={a", "/srv"], {}, "the value of ec2_backup_tags begins like JSON, but is not JSON: "),
    (["-e", "ec2_backup_frob=1", "/srv"], {}, "there is no variable ec2_backup_frob"),
    (["/srv/\udce9"], {}, "a name that is not UTF-8 cannot be given to Ansible (it has the byte 0xe9)"),
    (["--tag", "a", "/srv"], {}, "argument --tag: 'a' is not of the form KEY=VALUE (try --help)"),
    (["--tag", "aws:a=b", "/srv"], {}, "argument --tag: the tag aws:a cannot be set: AWS reserves those"),
    (["--tag", "=b", "/srv"], {}, "argument --tag: a tag's key has 1 to 128 characters, and '' has 0 (try --help)"),
    (
        ["--tag", "a=" + "b" * 257, "/srv"],
        {},
        "argument --tag: a tag's value has at most 256 characters, and that of a has 257 (try --help)",
    ),
    (["--instance-type", "big", "/srv"], {}, "'big' is not an instance type: those look like t3.small (try --help)"),
    (
        ["--compress", "rar", "/srv"],
        {},
        ("rar is no compressor that is known: choose one of zstd, gzip, xz, lz4, bzip2, or give a command with -l "
        "(ec2_backup_local_filter)"),
    ),
    (["--compress", "zstd:99", "/srv"], {}, "zstd:99: the level of zstd is a number from 1 to 22"),
    (
        ["--encrypt", "rot13:x", "/srv"],
        {},
        "rot13:x is no encryption that is known: write age:RECIPIENT or gpg:RECIPIENT",
    ),
    (
        ["--encrypt", "age:bob", "/srv"],
        {},
        "the recipient bob is not one of age's; give a public key, which begins with age1, ssh-ed25519 or ssh-rsa",
    ),
    (["--encrypt", "age:AGE-SECRET-KEY-1", "/srv"], {}, "that is a secret key, which has to stay secret"),
    (
        ["--encrypt", "gpg:-x", "/srv"],
        {},
        "the recipient is not one of gpg's: give a key's fingerprint, or its user's address",
    ),
    (
        ["-l", "cat", "--compress", "zstd", "/srv"],
        {},
        "-l cannot be combined with --compress or --encrypt: put the whole pipeline into -l",
    ),
    (
        ["/srv"],
        {"EC2_BACKUP_FLAGS_AWS": "--user-data x"},
        ("EC2_BACKUP_FLAGS_AWS: --user-data is not an option that ec2-backup knows; it knows "
        "--associate-public-ip-address, "),
    ),
    (["/srv"], {"EC2_BACKUP_FLAGS_AWS": "--subnet-id"}, "EC2_BACKUP_FLAGS_AWS: --subnet-id needs a value."),
    (
        ["/srv"],
        {"EC2_BACKUP_FLAGS_AWS": "--associate-public-ip-address=x"},
        "EC2_BACKUP_FLAGS_AWS: --associate-public-ip-address takes no value.",
    ),
    (
        ["/srv"],
        {"EC2_BACKUP_FLAGS_AWS": "--placement Tenancy=x"},
        "EC2_BACKUP_FLAGS_AWS: --placement Tenancy=x: only --placement AvailabilityZone=ZONE is understood.",
    ),
    (["/srv"], {"EC2_BACKUP_FLAGS_AWS": "'"}, """EC2_BACKUP_FLAGS_AWS cannot be read: no closing quotation in "'".""",),
    (["/srv"], {"EC2_BACKUP_FLAGS_SSH": "host"}, "EC2_BACKUP_FLAGS_SSH: 'host' is not an option of ssh."),
    (["/srv"], {"EC2_BACKUP_FLAGS_SSH": "-i"}, "EC2_BACKUP_FLAGS_SSH: -i needs a value."),
    (["/srv"], {"EC2_BACKUP_FLAGS_SSH": "-N"}, "EC2_BACKUP_FLAGS_SSH: -N cannot be used here: it runs no command."),
]  # fmt: skip


@pytest.fixture
def fails(monkeypatch):
    """Make ``backup`` end as if its play had failed with this text; fail the test if one runs that should not."""
    texts: list[str] = []

    def supervise(name, variables, run_id, observer):
        assert texts, "a play was begun"
        return Supervised(Outcome(rc=2, failures=list(texts)), None, [])

    monkeypatch.setattr(backup, "supervise", supervise)
    for name in ("EC2_BACKUP_FLAGS_AWS", "EC2_BACKUP_FLAGS_SSH"):
        monkeypatch.delenv(name, raising=False)
    return texts


@pytest.mark.parametrize(("argv", "environment", "message"), USAGE)
def test_wrong_usage_is_told_in_one_line_before_anything_begins(fails, capsys, monkeypatch, argv, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ec2-backup: error: ")
    assert message in err
    assert err.count("\n") == 1


# Where there is one more table like this one: tests/unit/test_config.py has the configuration file's.
CHECKED = ["arguments/options.py", "arguments/parser.py", "arguments/types.py", "commands/*.py"]
UTILITIES = ["flags.py", "_format/filters.py", "_account/catalog.py"]
OUTPUT = "the help could not be written to standard output:"  # no wrong usage
ERRORS = {"UserError", "ArgumentTypeError", "ValueError", "FilterError"}


def fixed_parts(error: ast.Call) -> list[str]:
    """The parts of an error's message that are always the same."""
    texts = [str(node.value) for node in ast.walk(error) if isinstance(node, ast.Constant)]
    return [part for text in texts for part in re.split(r"\{[^}]*\}", text)]


def test_the_table_lacks_no_refusal_that_there_is_in_the_code():
    told = " ".join([OUTPUT, *(message for _, _, message in USAGE)])
    files = [path for pattern in CHECKED for path in (ROOT / "ec2_backup").glob(pattern)]
    files += [ROOT / "plugins" / "module_utils" / name for name in UTILITIES]
    lacking = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = getattr(node.exc.func, "attr", getattr(node.exc.func, "id", ""))
                part = max([*fixed_parts(node.exc), ""], key=len).strip()
                if name in ERRORS and len(part) > len("{} (try --help)") and part not in told:
                    lacking.append(f"{path.name}:{node.lineno}: {part}")
    assert lacking == []


# ---- AWS's errors: status 1, in words for people --------------------------------------------------------------------

LAUNCH = "The instance was not launched: "


def refused(code: str, text: str) -> str:
    """A ClientError as botocore words it."""
    return f"An error occurred ({code}) when calling the RunInstances operation: {text}"


AWS = [(row["reported"], row["told"]) for row in yaml.safe_load((DATA / "aws_errors.yml").read_text())]


@pytest.mark.parametrize(("reported", "told"), AWS)
def test_an_error_of_aws_is_told_in_words_and_says_what_to_do(fails, capsys, reported, told):
    fails.append(reported)
    assert cli.main(["/srv"]) == 1
    assert capsys.readouterr() == ("", f"ec2-backup: error: {told}\n")


@pytest.mark.parametrize("code", CODES)
def test_every_known_code_stays_in_the_line_and_has_advice(code):
    told = reworded(LAUNCH + refused(code, "EC2's own text about 'something-1'."))
    assert f" [{code}]. " in told
    assert told.endswith(".")
    assert "{" not in told


def strings(value: Any) -> list[str]:
    """All that a play's YAML says in ``fail_msg`` and ``msg``."""
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    if isinstance(value, dict):
        here = [str(text) for key, text in value.items() if key in ("fail_msg", "msg", "message")]
        return here + [text for item in value.values() for text in strings(item)]
    return []


def test_what_our_own_roles_say_is_told_as_it_is():
    files = (ROOT / "roles").glob("*/tasks/*.yml")
    texts = {" ".join(text.split()) for path in files for text in strings(yaml.safe_load(path.read_text()))}
    assert len(texts) > 20
    assert {text for text in texts if reworded(text) != text} == set()


@pytest.mark.parametrize(
    "text",
    [
        "/srv/nowhere: there is no such directory",
        (
            f"Volume {VOLUME} was not found in us-east-1, nor in the 16 other regions looked at; these would not "
            "answer: "
            "ap-east-1 (AuthFailure)."
        ),
        f"volume {VOLUME} holds the signature ext4 (label precious): refused; use --force (ec2_backup_force)",
        LAUNCH + "EC2 has no room for t3.small in us-east-1a (InsufficientInstanceCapacity). Try later, or name other "
        "types in ec2_backup_instance_type_alternatives.",
        "no SSH login on ec2-backup@203.0.113.7 within 300 s (431 attempts); seen last: Connection refused",
        "the local filter ended with status 7: An error occurred",
        "ansible-playbook ended with status 99",
    ],
)
def test_what_our_own_modules_say_is_told_as_it_is(text):
    assert reworded(text) == text
