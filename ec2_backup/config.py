# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration file, and which of several places a setting is taken from.

The file is a YAML mapping of role variables. What there are, and of which types, is read from the roles' own argument
specs. A role variable that is set goes before the environment's options there, but the environment goes before the
file: hence what the environment sets is left out of what the file says, before the roles see it.
"""

import dataclasses
import difflib
import functools
import json
import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup.status import Status, UserError

PREFIX = "ec2_backup_"
FLAGS_AWS = "ec2_backup_flags_aws"
FLAGS_SSH = "ec2_backup_flags_ssh"

# What is said for one run, and would be wrong or dangerous for the next one. What a role requires is so too.
PER_RUN = frozenset(
    PREFIX + name
    for name in (
        "cleanup_dry_run",
        "cleanup_run_id",
        "dry_run",
        "force",
        "members",
        "restore_force",
        "restore_listing",
        "run_id",
        "target",
        "verify_against",
    )
)

# What the environment says besides EC2_BACKUP_FLAGS_AWS. Keys in the environment say who one is, as a profile does:
# amazon.aws refuses to be given both. The names are those that amazon.aws falls back to.
ENVIRONMENT = {
    "ec2_backup_flags_ssh": ("EC2_BACKUP_FLAGS_SSH",),
    "ec2_backup_profile": ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"),
    "ec2_backup_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
)

# variable: what the file says of these does not fit one that was set elsewhere.
YIELDING = {
    "ec2_backup_availability_zone": ("ec2_backup_subnet_id",),
    "ec2_backup_compress": ("ec2_backup_local_filter", "ec2_backup_local_filter_inverse"),
    "ec2_backup_encrypt": ("ec2_backup_local_filter", "ec2_backup_local_filter_inverse"),
    "ec2_backup_image_parameter": ("ec2_backup_image_id",),
    "ec2_backup_instance_type": ("ec2_backup_instance_type_alternatives",),
    "ec2_backup_local_filter": ("ec2_backup_compress", "ec2_backup_encrypt", "ec2_backup_local_filter_inverse"),
    "ec2_backup_remote_filter": ("ec2_backup_remote_filter_inverse",),
    "ec2_backup_subnet_id": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_id": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_ids": ("ec2_backup_availability_zone",),
    "ec2_backup_volume_type": ("ec2_backup_volume_iops", "ec2_backup_volume_throughput"),
}

# Of these an option that may be repeated adds to what the file says; -e replaces it, as it does any other.
ADDING = ("ec2_backup_exclude", "ec2_backup_exclude_from", "ec2_backup_tags")


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a role variable may hold, in the words of its argument spec."""

    type: str
    elements: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False


@functools.cache
def variables() -> Mapping[str, Variable]:
    """All public role variables of the installed collection."""
    import yaml  # here, because its import takes longer than --help may

    from ec2_backup.playbook import collection_directory

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    found: dict[str, Variable] = {}
    for path in sorted((collection_directory() / "roles").glob("*/meta/argument_specs.yml")):
        specs = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["argument_specs"]
        for name, option in ((name, option) for spec in specs.values() for name, option in spec["options"].items()):
            before = found.get(name)
            found[name] = Variable(
                option["type"],
                option.get("elements"),
                tuple(option.get("choices") or ()),
                bool(option.get("required")) or (before is not None and before.required),
            )
    return found


def nearest(word: str, words: Collection[str]) -> str | None:
    """The one that was probably meant, if any is near enough: one that begins so, or one that is spelled alike."""
    begun = [each for each in sorted(words) if word and each.startswith(word)]
    close = difflib.get_close_matches(word, sorted(words), n=1)
    return begun[0] if len(begun) == 1 else next(iter(close or begun), None)


def unknown(name: str, known: Collection[str]) -> str:
    """Words for a variable that does not exist, with the one that was probably meant."""
    short = {each.removeprefix(PREFIX): each for each in known}
    meant = nearest(name.strip("_").replace("-", "_").removeprefix(PREFIX), short)
    hint = f"did you mean {short[meant]}?" if meant else "docs/configuration.md tells where they are listed"
    return f"there is no variable {name}: {hint}"


def check_names(names: Collection[str]) -> None:
    """Refuse variables that no role has: nothing would look at them."""
    for name in names:
        if name not in variables():
            raise UserError(unknown(name, variables()), Status.USAGE)


# ------------------------------------------------------------------------------------------------------- the file


def default_file(environment: Mapping[str, str]) -> Path | None:
    """``$XDG_CONFIG_HOME/ec2-backup/config.yml``; None where no home is known.

    By the XDG base directory specification a relative path in that variable is invalid, and ignored.
    """
    named = environment.get("XDG_CONFIG_HOME", "")
    base = named if os.path.isabs(named) else os.path.expanduser("~/.config")
    return Path(base) / "ec2-backup" / "config.yml" if os.path.isabs(base) else None


def load(named: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The role variables that the configuration file sets.

    :param named: the file that was asked for, which has to exist; None for the default one, which need not.
    :raises UserError: it cannot be read, or something in it is not a setting.
    """
    path = Path(os.path.expanduser(named)) if named is not None else default_file(environment)
    if path is None or (named is None and not _is_there(path)):
        return {}
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"the configuration file {path} cannot be read: {reason}", Status.USAGE) from error
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise UserError(
            f"the configuration file {path} may be written by anybody, and its filters are run as you: "
            f"chmod o-w {path}",
            Status.USAGE,
        )
    try:
        return parse(content, variables())
    except ConfigError as error:
        raise UserError(f"{path}:{error}", Status.USAGE) from error


def _is_there(path: Path) -> bool:
    try:
        path.lstat()  # a link that leads nowhere is there: who made it wants to know
    except OSError:  # be it that somebody else's home may not be looked into
        return False
    return True


class ConfigError(ValueError):
    """Something in the file that is wrong; its text begins with the line."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"{line}: {text}")


def parse(content: bytes, known: Mapping[str, Variable]) -> dict[str, Any]:
    """The settings in a file.

    :raises ConfigError: it is no YAML, or no mapping of known variables to values of their types.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """A mapping that has a key twice would lose one of the two values in silence."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            lines: dict[Any, int] = {}
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                line = key_node.start_mark.line + 1
                if not isinstance(key, str | int | float | bool | None):
                    raise ConfigError(line, "a key has to be a word")
                if key in lines:
                    raise ConfigError(line, f"{key} is set here, and in line {lines[key]} before")
                lines[key] = line
            return super().construct_mapping(node, deep)

    settings: dict[str, Any] = {}
    try:
        loader = Loader(content)
        root = loader.get_single_node()
        values = root and loader.construct_document(root)
        if root is None or values is None:
            return settings
        if not isinstance(values, dict):
            raise ConfigError(root.start_mark.line + 1, "lines of the form `ec2_backup_NAME: VALUE` were expected")
        for key_node, value_node in root.value:
            name = str(key_node.value)
            line = key_node.start_mark.line + 1
            if name not in known:
                raise ConfigError(line, unknown(name, known))
            if name in PER_RUN or known[name].required:
                raise ConfigError(line, f"{name} is for one run, not for all of them: give it on the command line")
            _check(name, values[name], known[name], value_node)
            settings[name] = _expanded(values[name], known[name])
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", 0)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        line = mark.line + 1 if mark else content.count(b"\n", 0, position) + 1
        raise ConfigError(line, f"this cannot be read as YAML: {' '.join(reason.split())}") from error
    except RecursionError as error:
        raise ConfigError(1, "this is nested too deep") from error
    return settings


_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "dict": ("a mapping", lambda value: isinstance(value, dict)),
    "float": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "list": ("a list", lambda value: isinstance(value, list)),
    "path": (
        "an absolute path, or one that begins with ~/",
        # Relative to what would not be clear: to the file, or to where the command is run.
        lambda value: isinstance(value, str) and (value == "" or value.startswith(("/", "~"))),
    ),
    "raw": ("anything", lambda value: True),
    "str": ("a string", lambda value: isinstance(value, str)),
}


def _check(name: str, value: Any, variable: Variable, node: Any) -> None:
    """Refuse a value that is not of its variable's type; ``node`` tells the lines."""
    line = node.start_mark.line + 1
    _expect(variable.type, value, name, line, f" of {_plural(variable.elements)}" if variable.elements else "")
    if variable.choices and value not in variable.choices:
        meant = nearest(str(value), variable.choices)
        hint = f": did you mean {meant}?" if meant else ""
        raise ConfigError(line, f"{name}: expected one of {', '.join(variable.choices)}, not {_shown(value)}{hint}")
    if variable.type == "list" and variable.elements:
        for position, (element, inner) in enumerate(zip(value, node.value, strict=True), 1):
            _expect(variable.elements, element, f"{name}, item {position}", inner.start_mark.line + 1)
    if name == "ec2_backup_tags":
        lines = {key_node.value: key_node.start_mark.line + 1 for key_node, _ in node.value}
        for key, text in value.items():
            here = lines.get(str(key), line)
            _expect("str", key, name, here)
            _expect("str", text, f"{name}, {key}", here)
            _try(functools.partial(check_tag, key, text), name, here)
    if variable.type == "dict":
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:  # a date, or what holds itself
            reason = f"{name}: strings, numbers, lists and mappings are all it may hold; put a date in quotes"
            raise ConfigError(line, reason) from error
    if name == FLAGS_AWS:
        _try(lambda: parse_aws_flags(value), name, line)
    if name == FLAGS_SSH:
        _try(lambda: parse_ssh_flags(value), name, line)


def _expect(kind: str, value: Any, where: str, line: int, of: str = "") -> None:
    words, fits = _TYPES[kind]
    if not fits(value):
        quote = ": put it in quotes" if kind == "str" and not isinstance(value, dict | list | None) else ""
        raise ConfigError(line, f"{where}: expected {words}{of}, not {_shown(value)}{quote}")


def _try(check: Callable[[], Any], name: str, line: int) -> None:
    try:
        check()
    except ValueError as error:
        text = str(error).removeprefix("EC2_BACKUP_FLAGS_AWS: ").removeprefix("EC2_BACKUP_FLAGS_SSH: ")
        raise ConfigError(line, f"{name}: {text}") from error


def _plural(kind: str) -> str:
    return {"str": "strings", "path": "absolute paths"}.get(kind, kind)


def _shown(value: Any) -> str:
    """A value, for a message of one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), str(value))


def _expanded(value: Any, variable: Variable) -> Any:
    """A value with the home in place of each path's ``~``."""
    if variable.type == "path":
        return os.path.expanduser(value)
    return [os.path.expanduser(each) for each in value] if variable.elements == "path" else value


def check_tag(key: str, value: str) -> None:
    """Refuse a tag that could not be made, or that is ours to make.

    EC2 takes keys of up to 128 and values of up to 256 characters, and keeps ``aws:`` for itself
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).

    :raises ValueError: with the reason.
    """
    for prefix, owner in (("ec2-backup:", "ec2-backup itself goes by those"), ("aws:", "AWS keeps those for itself")):
        if key.lower().startswith(prefix):
            raise ValueError(f"the tag {key} cannot be set: {owner}")
    if not 0 < len(key) <= 128:
        raise ValueError(f"a tag's key has 1 to 128 characters, and {_shown(key)} has {len(key)}")
    if len(value) > 256:
        raise ValueError(f"a tag's value has at most 256 characters, and that of {key} has {len(value)}")


# ------------------------------------------------------------------------------------------------ which place counts


def settle(
    options: Mapping[str, Any], assigned: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any]
) -> dict[str, Any]:
    """The role variables to run with: the command line goes before the environment, and that before the file.

    What the environment says is not among them, since the roles see the environment themselves.

    :param options: what the command line's options and arguments ask for.
    :param assigned: what it sets by ``-e``.
    :param file: what the configuration file sets.
    :raises ValueError: the command line contradicts itself, or has flags that cannot be read.
    """
    for name in options:
        if name in assigned and assigned[name] != options[name]:
            raise ValueError(f"-e {name}=… cannot be given here: the rest of the command line says it already")
    named = parse_aws_flags(assigned.get(FLAGS_AWS, environment.get("EC2_BACKUP_FLAGS_AWS")))
    seen = {name: True for name, sources in ENVIRONMENT.items() if any(environment.get(each) for each in sources)}
    nearer = {**seen, **named, **options, **assigned}
    yielding = {each for name, value in nearer.items() if value for each in YIELDING.get(name, ())}
    # Options in AWS's spelling are taken apart, for each of them may be one that is set elsewhere.
    written = {**parse_aws_flags(file.get(FLAGS_AWS)), **{k: v for k, v in file.items() if k != FLAGS_AWS}}
    kept = {name: value for name, value in written.items() if name not in nearer and name not in yielding}
    added = {name: _sum(written[name], options[name]) for name in ADDING if name in written and name in options}
    return {**kept, **options, **added, **assigned}


def _sum(below: Any, above: Any) -> Any:
    return {**below, **above} if isinstance(below, dict) else [*below, *above]


def keys_hidden(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """What to change in the environment where a profile was asked for, and keys are there too.

    The AWS CLI goes by the profile then; amazon.aws refuses the two together, unless the keys are empty.
    """
    flags = parse_aws_flags(settings.get(FLAGS_AWS, environment.get("EC2_BACKUP_FLAGS_AWS")))
    profile = settings.get("ec2_backup_profile", flags.get("ec2_backup_profile"))
    return {name: "" for name in KEYS if profile and environment.get(name)}
