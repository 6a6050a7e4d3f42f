"""The configuration file, and which of several places a setting is taken from."""

import os
import subprocess
import sys

import pytest

from ec2_backup import cli
from ec2_backup.arguments import config_file, settings, variables
from ec2_backup.arguments.config_file import ConfigError, parse
from ec2_backup.arguments.options import find_command
from ec2_backup.arguments.settings import settle
from ec2_backup.arguments.variables import Variable
from ec2_backup.commands import backup
from ec2_backup.run.environment import KEYS, keys_hidden
from ec2_backup.status import UserError

KNOWN = {
    "ec2_backup_cloud_init": Variable("bool"),
    "ec2_backup_exclude": Variable("list", "str"),
    "ec2_backup_exclude_from": Variable("list", "path"),
    "ec2_backup_flags_aws": Variable("str"),
    "ec2_backup_flags_ssh": Variable("str"),
    "ec2_backup_force": Variable("bool"),
    "ec2_backup_idle_timeout": Variable("int"),
    "ec2_backup_instance_type": Variable("str"),
    "ec2_backup_region": Variable("str"),
    "ec2_backup_restore_identity": Variable("path"),
    "ec2_backup_source": Variable("path", required=True),
    "ec2_backup_tags": Variable("dict"),
    "ec2_backup_volume_size_factor": Variable("float"),
    "ec2_backup_volume_type": Variable("str", choices=("gp2", "gp3", "io1")),
}


def test_a_file_sets_role_variables_of_every_type():
    text = b"""\
# a comment
---
ec2_backup_instance_type: t3.nano
ec2_backup_cloud_init: false
ec2_backup_idle_timeout: 300
ec2_backup_volume_size_factor: 1
ec2_backup_volume_type: gp2
ec2_backup_exclude: ["*.o", .cache]
ec2_backup_tags: {team: ops}
ec2_backup_restore_identity: ~/key
ec2_backup_exclude_from: [~/patterns, /etc/patterns]
"""
    assert parse(text, KNOWN) == {
        "ec2_backup_instance_type": "t3.nano",
        "ec2_backup_cloud_init": False,
        "ec2_backup_idle_timeout": 300,
        "ec2_backup_volume_size_factor": 1,
        "ec2_backup_volume_type": "gp2",
        "ec2_backup_exclude": ["*.o", ".cache"],
        "ec2_backup_tags": {"team": "ops"},
        "ec2_backup_restore_identity": os.path.expanduser("~/key"),
        "ec2_backup_exclude_from": [os.path.expanduser("~/patterns"), "/etc/patterns"],
    }


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"---\n", b"{}\n"])
def test_a_file_may_set_nothing(text):
    assert parse(text, KNOWN) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nec2_backup_regoin: x",
            "1: there is no variable a: docs/configuration.md says where they are listed",
        ),
        ("\nec2_backup_regoin: x", "2: there is no variable ec2_backup_regoin: did you mean ec2_backup_region?"),
        ("region: x", "1: there is no variable region: did you mean ec2_backup_region?"),
        ("instance-type: x", "1: there is no variable instance-type: did you mean ec2_backup_instance_type?"),
        ("__ec2_backup_region: x", "1: there is no variable __ec2_backup_region: did you mean ec2_backup_region?"),
        ("ec2_backup_region: 1", "1: ec2_backup_region: expected a string, not 1: put it in quotes"),
        ("ec2_backup_region: no", "1: ec2_backup_region: expected a string, not false: put it in quotes"),
        ("ec2_backup_region: 2026-11-22", "1: ec2_backup_region: expected a string, not 2026-11-22: put it in quotes"),
        ("ec2_backup_region:", "1: ec2_backup_region: expected a string, not nothing"),
        ("ec2_backup_region: [a]", "1: ec2_backup_region: expected a string, not a list"),
        ("ec2_backup_cloud_init: 'no'", "1: ec2_backup_cloud_init: expected true or false, not 'no'"),
        ("ec2_backup_cloud_init: 0", "1: ec2_backup_cloud_init: expected true or false, not 0"),
        ("ec2_backup_idle_timeout: 1.5", "1: ec2_backup_idle_timeout: expected a whole number, not 1.5"),
        ("ec2_backup_idle_timeout: true", "1: ec2_backup_idle_timeout: expected a whole number, not true"),
        ("ec2_backup_idle_timeout: '5'", "1: ec2_backup_idle_timeout: expected a whole number, not '5'"),
        ("ec2_backup_volume_size_factor: x", "1: ec2_backup_volume_size_factor: expected a number, not 'x'"),
        ("ec2_backup_exclude: '*.o'", "1: ec2_backup_exclude: expected a list of strings, not '*.o'"),
        (
            "ec2_backup_exclude:\n- a\n- 5\n",
            "3: ec2_backup_exclude, item 2: expected a string, not 5: put it in quotes",
        ),
        (
            "ec2_backup_exclude_from: [key]",
            "1: ec2_backup_exclude_from, item 1: expected an absolute path, or one that begins with ~/, not 'key'",
        ),
        (
            "ec2_backup_restore_identity: key",
            "1: ec2_backup_restore_identity: expected an absolute path, or one that begins with ~/, not 'key'",
        ),
        (
            "ec2_backup_volume_type: gp33",
            "1: ec2_backup_volume_type: expected one of gp2, gp3, io1, not 'gp33': did you mean gp3?",
        ),
        ("ec2_backup_tags: [a]", "1: ec2_backup_tags: expected a mapping, not a list"),
        (
            "ec2_backup_tags:\n  team: ops\n  number: 42\n",
            "3: ec2_backup_tags, number: expected a string, not 42: put it in quotes",
        ),
        (
            "ec2_backup_tags:\n  ec2-backup:run-id: x\n",
            "2: ec2_backup_tags: the tag ec2-backup:run-id cannot be set: ec2-backup uses those itself",
        ),
        (
            "ec2_backup_source: /srv",
            "1: ec2_backup_source is for one run, not for all of them: give it on the command line",
        ),
        (
            "ec2_backup_force: true",
            "1: ec2_backup_force is for one run, not for all of them: give it on the command line",
        ),
        ("ec2_backup_flags_aws: --frob 1", "1: ec2_backup_flags_aws: --frob is not an option that ec2-backup knows"),
        ("ec2_backup_flags_ssh: host", "1: ec2_backup_flags_ssh: 'host' is not an option of ssh."),
        (
            "ec2_backup_region: a\n\nec2_backup_region: b\n",
            "3: ec2_backup_region is set here, and in line 1 before",
        ),
        ("ec2_backup_tags:\n  a: b\n  a: c\n", "3: a is set here, and in line 2 before"),
        ("- a\n", "1: lines of the form `ec2_backup_NAME: VALUE` were expected"),
        ("ec2_backup_region = eu-west-1\n", "1: lines of the form `ec2_backup_NAME: VALUE` were expected"),
        ("? [a]\n: b\n", "1: a key has to be a word"),
        ("\nec2_backup_region: [a\n", "3: this cannot be read as YAML: expected ',' or ']', but got '<stream end>'"),
        ("ec2_backup_exclude:\n\t- a\n", "2: this cannot be read as YAML: found character '\\t'"),
        ("ec2_backup_region: !vault x\n", "1: this cannot be read as YAML: could not determine a constructor"),
        ("ec2_backup_region: *x\n", "1: this cannot be read as YAML: found undefined alias 'x'"),
        ("---\n---\n", "2: this cannot be read as YAML: but found another document"),
    ],
)
def test_what_is_no_setting_is_told_with_its_line(text, message):
    with pytest.raises(ConfigError) as raised:
        parse(text.encode(), KNOWN)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_are_told_with_their_line():
    with pytest.raises(ConfigError, match=r"^2: this cannot be read as YAML: "):
        parse(b"# x\nec2_backup_region: \xff\n", KNOWN)


@pytest.mark.parametrize("value", ["&a {x: *a}", "{x: 2026-11-22}"])
def test_a_mapping_that_is_not_json_is_refused(value):
    with pytest.raises(ConfigError, match=r"^1: ec2_backup_tags"):
        parse(f"ec2_backup_tags: {value}\n".encode(), KNOWN)


def test_what_is_nested_too_deep_is_told():
    with pytest.raises(ConfigError, match=r"^\d+: this "):
        parse(b"ec2_backup_exclude: " + b"[" * 100_000, KNOWN)


# ------------------------------------------------------------------------------------------------------- the file


def test_the_variables_are_those_of_the_roles():
    known = variables.variables()
    assert known["ec2_backup_source"] == Variable("path", required=True)
    assert known["ec2_backup_volume_id"].required  # of the role restore; of the role volume it is not
    assert known["ec2_backup_exclude_from"] == Variable("list", "path")
    assert "gp3" in known["ec2_backup_volume_type"].choices
    assert {variable.type for variable in known.values()} <= set(config_file._TYPES)
    assert {variable.elements for variable in known.values()} <= {*config_file._TYPES, None}


def test_every_variable_that_is_treated_in_some_way_exists():
    treated = {*config_file.PER_RUN, *settings.ENVIRONMENT, *settings.ADDING, *settings.CONFLICTING}
    treated |= {each for names in settings.CONFLICTING.values() for each in names}
    assert treated - set(variables.variables()) == set()


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"XDG_CONFIG_HOME": "/etc/xdg"}, "/etc/xdg/ec2-backup/config.yml"),
        ({"XDG_CONFIG_HOME": "relative"}, "/home/me/.config/ec2-backup/config.yml"),
        ({"XDG_CONFIG_HOME": ""}, "/home/me/.config/ec2-backup/config.yml"),
        ({}, "/home/me/.config/ec2-backup/config.yml"),
    ],
)
def test_the_default_file_is_where_xdg_says(monkeypatch, environment, place):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(config_file.default_file(environment)) == place


def test_without_a_home_there_is_no_default_file(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert config_file.default_file({}) is None
    assert config_file.load(None, {}) == {}


@pytest.fixture
def home(tmp_path):
    """A directory for the default file; return it and its environment."""
    (tmp_path / "ec2-backup").mkdir()
    return tmp_path / "ec2-backup" / "config.yml", {"XDG_CONFIG_HOME": str(tmp_path)}


def test_the_default_file_is_read(home):
    path, environment = home
    path.write_text("ec2_backup_region: eu-west-1\n")
    assert config_file.load(None, environment) == {"ec2_backup_region": "eu-west-1"}


def test_the_default_file_may_be_absent(home):
    assert config_file.load(None, home[1]) == {}
    assert config_file.load(None, {"XDG_CONFIG_HOME": "/dev/null"}) == {}


def test_a_file_that_is_named_is_read_in_place_of_the_default_one(home, tmp_path):
    path, environment = home
    path.write_text("nonsense")
    other = tmp_path / "other.yml"
    other.write_text("ec2_backup_instance_type: t3.nano\n")
    assert config_file.load(str(other), environment) == {"ec2_backup_instance_type": "t3.nano"}
    assert config_file.load("/dev/null", environment) == {}


def problem(named, environment):
    with pytest.raises(UserError) as raised:
        config_file.load(named, environment)
    assert raised.value.status == 2
    return str(raised.value)


def test_a_file_that_is_named_has_to_exist(tmp_path):
    missing = tmp_path / "missing.yml"
    assert problem(str(missing), {}) == f"the configuration file {missing} cannot be read: No such file or directory"
    assert problem(str(tmp_path), {}) == f"the configuration file {tmp_path} cannot be read: Is a directory"


def test_a_default_file_that_leads_nowhere_is_told(home):
    path, environment = home
    path.symlink_to("missing.yml")
    assert problem(None, environment) == f"the configuration file {path} cannot be read: No such file or directory"


def test_a_file_that_may_not_be_read_is_told(home, monkeypatch):
    path, environment = home
    path.write_text("")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert problem(None, environment) == f"the configuration file {path} cannot be read: Permission denied"


def test_a_file_that_anybody_may_write_is_refused(home):
    path, environment = home
    path.write_text("ec2_backup_local_filter: zstd\n")
    path.chmod(0o666)
    assert problem(None, environment).endswith(f"its filters are run as you: chmod o-w {path}")


def test_an_error_names_file_and_line(home):
    path, environment = home
    path.write_text("\nec2_backup_volume_iops: many\n")
    message = f"{path}:2: ec2_backup_volume_iops: expected a whole number, not 'many'"
    assert problem(None, environment) == message


# ------------------------------------------------------------------------------------------------ which place counts

TYPE, REGION, PROFILE = "ec2_backup_instance_type", "ec2_backup_region", "ec2_backup_profile"
LOCAL, COMPRESS, ENCRYPT = "ec2_backup_local_filter", "ec2_backup_compress", "ec2_backup_encrypt"
LOCAL_INVERSE = "ec2_backup_local_filter_inverse"
FLAGS_AWS, FLAGS_SSH = "ec2_backup_flags_aws", "ec2_backup_flags_ssh"
TAGS, EXCLUDE = "ec2_backup_tags", "ec2_backup_exclude"
IN_FLAGS = {"EC2_BACKUP_FLAGS_AWS": "--instance-type env.1 --region env-1"}


@pytest.mark.parametrize(
    ("asked", "assigned", "environment", "file", "settled"),
    [
        # The nearest place counts. What the environment says is not passed on: the roles see it themselves.
        ({}, {}, {}, {}, {}),
        ({}, {}, {}, {TYPE: "file.1"}, {TYPE: "file.1"}),
        ({}, {}, IN_FLAGS, {TYPE: "file.1"}, {}),
        ({TYPE: "flag.1"}, {}, IN_FLAGS, {TYPE: "file.1"}, {TYPE: "flag.1"}),
        ({TYPE: "flag.1"}, {}, {}, {TYPE: "file.1"}, {TYPE: "flag.1"}),
        ({}, {TYPE: "e.1"}, IN_FLAGS, {TYPE: "file.1"}, {TYPE: "e.1"}),
        ({}, {TYPE: ""}, {}, {TYPE: "file.1"}, {TYPE: ""}),
        ({}, {}, {"EC2_BACKUP_FLAGS_AWS": "--subnet-id s"}, {TYPE: "file.1"}, {TYPE: "file.1"}),
        ({}, {}, {"EC2_BACKUP_FLAGS_AWS": ""}, {TYPE: "file.1"}, {TYPE: "file.1"}),
        ({TYPE: "same"}, {TYPE: "same"}, {}, {}, {TYPE: "same"}),
        # What every AWS tool reads.
        ({}, {}, {"AWS_REGION": "env-1"}, {REGION: "file-1"}, {}),
        ({}, {}, {"AWS_DEFAULT_REGION": "env-1"}, {REGION: "file-1"}, {}),
        ({}, {}, {"AWS_REGION": ""}, {REGION: "file-1"}, {REGION: "file-1"}),
        ({REGION: "flag-1"}, {}, {"AWS_REGION": "env-1"}, {REGION: "file-1"}, {REGION: "flag-1"}),
        ({}, {}, {"AWS_PROFILE": "env"}, {PROFILE: "file", REGION: "file-1"}, {REGION: "file-1"}),
        ({}, {}, {"AWS_DEFAULT_PROFILE": "env"}, {PROFILE: "file"}, {}),
        ({}, {}, {"AWS_ACCESS_KEY_ID": "env"}, {PROFILE: "file"}, {}),
        ({PROFILE: "flag"}, {}, {"AWS_ACCESS_KEY_ID": "env"}, {PROFILE: "file"}, {PROFILE: "flag"}),
        # Options in another tool's spelling, in the file and on the command line.
        ({}, {}, {"EC2_BACKUP_FLAGS_SSH": "-4"}, {FLAGS_SSH: "-6"}, {}),
        ({}, {FLAGS_SSH: "-4"}, {}, {FLAGS_SSH: "-6"}, {FLAGS_SSH: "-4"}),
        ({}, {}, {}, {FLAGS_SSH: "-6"}, {FLAGS_SSH: "-6"}),
        ({}, {}, {}, {FLAGS_AWS: "--instance-type f.1"}, {TYPE: "f.1"}),
        ({}, {}, {}, {FLAGS_AWS: "--instance-type f.1", TYPE: "file.1"}, {TYPE: "file.1"}),
        ({}, {}, IN_FLAGS, {FLAGS_AWS: "--instance-type f.1 --profile f"}, {PROFILE: "f"}),
        ({TYPE: "flag.1"}, {}, {}, {FLAGS_AWS: "--instance-type f.1"}, {TYPE: "flag.1"}),
        (
            {},
            {FLAGS_AWS: "--instance-type e.1"},
            {},
            {TYPE: "file.1", REGION: "file-1"},
            {FLAGS_AWS: "--instance-type e.1", REGION: "file-1"},
        ),
        (
            {},
            {FLAGS_AWS: "--instance-type e.1"},
            IN_FLAGS,
            {REGION: "file-1"},
            {FLAGS_AWS: "--instance-type e.1", REGION: "file-1"},
        ),
        # What the file says is left out where it does not go with what was said elsewhere.
        ({LOCAL: "x"}, {}, {}, {COMPRESS: "zstd", ENCRYPT: "age:a", LOCAL_INVERSE: "y"}, {LOCAL: "x"}),
        ({COMPRESS: "zstd"}, {}, {}, {LOCAL: "x", LOCAL_INVERSE: "y"}, {COMPRESS: "zstd"}),
        ({COMPRESS: "zstd"}, {}, {}, {ENCRYPT: "age:a"}, {COMPRESS: "zstd", ENCRYPT: "age:a"}),
        ({}, {COMPRESS: ""}, {}, {COMPRESS: "zstd", ENCRYPT: "age:a"}, {COMPRESS: "", ENCRYPT: "age:a"}),
        ({}, {COMPRESS: ""}, {}, {LOCAL: "x"}, {COMPRESS: "", LOCAL: "x"}),
        (
            {"ec2_backup_remote_filter": "x"},
            {},
            {},
            {"ec2_backup_remote_filter_inverse": "y"},
            {"ec2_backup_remote_filter": "x"},
        ),
        ({}, {}, IN_FLAGS, {"ec2_backup_instance_type_alternatives": ["a.1"]}, {}),
        (
            {"ec2_backup_volume_id": "vol-1"},
            {},
            {},
            {"ec2_backup_availability_zone": "z"},
            {"ec2_backup_volume_id": "vol-1"},
        ),
        (
            {},
            {"ec2_backup_image_parameter": "/p"},
            {},
            {"ec2_backup_image_id": "ami-1"},
            {"ec2_backup_image_parameter": "/p"},
        ),
        # What may be repeated adds up; -e replaces.
        ({TAGS: {"b": "2"}}, {}, {}, {TAGS: {"a": "1", "b": "1"}}, {TAGS: {"a": "1", "b": "2"}}),
        ({}, {TAGS: {"b": "2"}}, {}, {TAGS: {"a": "1"}}, {TAGS: {"b": "2"}}),
        ({EXCLUDE: ["b"]}, {}, {}, {EXCLUDE: ["a"]}, {EXCLUDE: ["a", "b"]}),
        ({EXCLUDE: ["b"]}, {}, {}, {}, {EXCLUDE: ["b"]}),
    ],
)
def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    asked, assigned, environment, file, settled
):
    assert settle(asked, assigned, environment, file) == settled


def test_a_command_line_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match=r"^-e ec2_backup_region=… cannot be given here: the rest of the command line"):
        settle({REGION: "a"}, {REGION: "b"}, {}, {})


@pytest.mark.parametrize(
    ("settings", "environment", "hidden"),
    [
        ({}, {"AWS_ACCESS_KEY_ID": "a"}, set()),
        ({PROFILE: "p"}, {}, set()),
        ({PROFILE: ""}, {"AWS_ACCESS_KEY_ID": "a"}, set()),
        (
            {PROFILE: "p"},
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
            {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
        ),
        (
            {},
            {"AWS_ACCESS_KEY_ID": "a", "EC2_BACKUP_FLAGS_AWS": "--profile p"},
            {"AWS_ACCESS_KEY_ID"},
        ),
        ({PROFILE: ""}, {"AWS_ACCESS_KEY_ID": "a", "EC2_BACKUP_FLAGS_AWS": "--profile p"}, set()),
    ],
)
def test_a_profile_that_is_asked_for_goes_before_keys_in_the_environment(settings, environment, hidden):
    assert keys_hidden(settings, environment) == dict.fromkeys(hidden, "")


# --------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def settled(monkeypatch, home):
    """Return a function that tells the role variables that ``backup`` would run with."""
    for name in ("EC2_BACKUP_FLAGS_AWS", "EC2_BACKUP_FLAGS_SSH", *KEYS, *sum(settings.ENVIRONMENT.values(), ())):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", home[1]["XDG_CONFIG_HOME"])

    def role_variables(*argv):
        found = backup.role_variables(backup.parser().parse_args([*argv, "/srv"]), "run")
        return {k: v for k, v in found.items() if k not in ("ec2_backup_source", "ec2_backup_run_id")}

    return role_variables


def test_plain_options_become_role_variables(settled):
    argv = ["--profile", "work", "--region", "eu-west-1", "--instance-type", "t4g.nano", "--name", "mine"]
    assert settled(*argv, "--tag", "a=b", "--tag", "c=d=e", "--tag", "f=") == {
        PROFILE: "work",
        REGION: "eu-west-1",
        TYPE: "t4g.nano",
        "ec2_backup_name": "mine",
        TAGS: {"a": "b", "c": "d=e", "f": ""},
    }


def test_the_file_the_environment_and_the_command_line_meet(settled, home, monkeypatch):
    home[0].write_text("ec2_backup_instance_type: t3.micro\nec2_backup_tags: {team: ops}\n")
    assert settled() == {TYPE: "t3.micro", TAGS: {"team": "ops"}}
    assert settled("--tag", "a=b")[TAGS] == {"team": "ops", "a": "b"}
    assert settled("--config", "/dev/null") == {}
    monkeypatch.setenv("EC2_BACKUP_FLAGS_AWS", "--instance-type t3.nano")
    assert TYPE not in settled()
    assert settled("--instance-type", "t3.large")[TYPE] == "t3.large"


def test_an_unknown_variable_on_the_command_line_is_told_with_the_nearest_one(settled):
    with pytest.raises(
        UserError, match=r"^there is no variable ec2_backup_volume_typ: did you mean ec2_backup_volume_t"
    ):
        settled("-e", "ec2_backup_volume_typ=gp2")


def test_a_filter_of_the_file_and_a_compression_of_the_file_are_refused_together(settled, home, capsys):
    home[0].write_text("ec2_backup_local_filter: cat\nec2_backup_compress: zstd\n")
    assert cli.main(["/srv"]) == 2
    assert "-l cannot be combined with --compress or --encrypt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--tag", "a", "/srv"], "argument --tag: 'a' is not of the form KEY=VALUE"),
        (["--tag", "=a", "/srv"], "argument --tag: a tag's key has 1 to 128 characters, and '' has 0"),
        (
            ["--tag", "ec2-backup:status=x", "/srv"],
            "the tag ec2-backup:status cannot be set: ec2-backup uses those itself",
        ),
        (["--tag", "AWS:x=y", "/srv"], "argument --tag: the tag AWS:x cannot be set: AWS reserves those"),
        (["--tag", "a=" + "b" * 257, "/srv"], "a tag's value has at most 256 characters, and that of a has 257"),
        (["--instance-type", "t3", "/srv"], "argument --instance-type: 't3' is not an instance type: those look like"),
        (["--config", "/nonexistent", "/srv"], "the configuration file /nonexistent cannot be read: No such file"),
        (["--region", "a", "-e", "ec2_backup_region=b", "/srv"], "-e ec2_backup_region=… cannot be given here"),
        (["--exlude", "*.o", "/srv"], "there is no option --exlude: did you mean --exclude?"),
        (["--exlude"], "there is no option --exlude: did you mean --exclude?"),
        (["--exlude=*.o", "/srv"], "there is no option --exlude: did you mean --exclude?"),
        (["--prof", "x", "/srv"], "there is no option --prof: did you mean --profile?"),
        (["-region", "eu-west-1", "/srv"], "there is no option -region: did you mean --region?"),
        (["-verbose", "/srv"], "there is no option -verbose: did you mean --verbose?"),
        (["-x", "/srv"], "there is no option -x (try --help)"),
        (["restore", "--lst-files", "vol-1"], "there is no option --lst-files: did you mean --list-files?"),
        (
            ["restor", "vol-1", "/x"],
            "restor is neither a command nor a directory that exists: did you mean `ec2-backup re",
        ),
        (
            ["--profile", "x", "lst"],
            "lst is neither a command nor a directory that exists: did you mean `ec2-backup list`?",
        ),
        (["clean"], "did you mean `ec2-backup cleanup`?"),
    ],
)
def test_what_is_mistyped_is_told_with_what_was_meant(capsys, monkeypatch, tmp_path, argv, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("ec2-backup: error: ")
    assert message in err


COMMANDS = ("backup", "restore", "verify", "list", "cleanup")


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        ([], None, []),
        (["/srv"], None, ["/srv"]),
        (["list", "--json"], "list", ["--json"]),
        (["--profile", "p", "list", "--json"], "list", ["--profile", "p", "--json"]),
        (["--profile=p", "--verbose", "-e", "a=b", "list"], "list", ["--profile=p", "--verbose", "-e", "a=b"]),
        (["--profile", "list"], None, ["--profile", "list"]),
        (["--verbose", "./list"], None, ["--verbose", "./list"]),
        (["-v", "vol-1", "list"], None, ["-v", "vol-1", "list"]),
        (["--", "list"], None, ["--", "list"]),
        (["restor"], None, ["restor"]),  # there is a directory of that name
        (["./nowhere/list"], None, ["./nowhere/list"]),
    ],
)
def test_options_that_all_commands_have_may_stand_before_the_command(monkeypatch, tmp_path, words, command, rest):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "restor").mkdir()
    assert find_command(words, COMMANDS) == (command, rest)


@pytest.mark.parametrize(
    ("command", "lines"), [("backup", 33), ("restore", 23), ("verify", 23), ("list", 23), ("cleanup", 23)]
)
def test_the_short_help_fits_a_screen(capsys, monkeypatch, command, lines):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "-h"])
    shown = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert len(shown) <= lines
    assert max(map(len, shown)) <= 80
    headings = [line for line in shown if line.endswith(":") and not line.startswith(" ")]
    order = ["selection:", "filters:", "common options (--help describes them):", "examples:"]
    assert headings == [heading for heading in order if heading in headings]
    assert headings[-2:] == order[-2:]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_long_help_describes_every_option(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = capsys.readouterr().out
    assert "--profile NAME" in shown
    assert "common options:\n  -h, --help" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_help_does_not_read_yaml():
    code = "import sys, ec2_backup.cli as c\ntry: c.main(['-h'])\nexcept SystemExit: print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
