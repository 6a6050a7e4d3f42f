# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration file: a YAML mapping of role variables.

The variables and their types are those of the roles' argument specs.
"""

import functools
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.ec2_backup.ebs.plugins.module_utils.flags import parse_aws_flags, parse_ssh_flags
from ec2_backup.arguments.suggest import nearest
from ec2_backup.arguments.types import check_tag, shown
from ec2_backup.arguments.variables import FLAGS_AWS, FLAGS_SSH, PREFIX, Variable, unknown, variables
from ec2_backup.status import Status, UserError

# Variables for a single run: in the file they would be wrong or dangerous for the next run. So would those that a role
# requires.
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


def default_file(environment: Mapping[str, str]) -> Path | None:
    """Return ``ec2-backup/config.yml`` below ``$XDG_CONFIG_HOME``, or below ``~/.config``; None without a home.

    The XDG base directory specification says that a relative path in that variable is to be ignored.
    """
    named = environment.get("XDG_CONFIG_HOME", "")
    base = named if os.path.isabs(named) else os.path.expanduser("~/.config")
    return Path(base) / "ec2-backup" / "config.yml" if os.path.isabs(base) else None


def load(named: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the role variables that the configuration file sets.

    :param named: the file that the user named, which has to exist; None for the default one, which need not exist.
    :raises UserError: it cannot be read, or something in it is wrong.
    """
    path = Path(os.path.expanduser(named)) if named is not None else default_file(environment)
    if path is None or (named is None and not _is_there(path)):
        return {}
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except (OSError, ValueError) as error:  # ValueError: the name has a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"the configuration file {path} cannot be read: {reason}", Status.USAGE) from error
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise UserError(
            f"the configuration file {path} can be written by every user, and its filters are run as you: "
            f"chmod o-w {path}",
            Status.USAGE,
        )
    try:
        return parse(content, variables())
    except ConfigError as error:
        raise UserError(f"{path}:{error}", Status.USAGE) from error


def _is_there(path: Path) -> bool:
    try:
        path.lstat()  # a broken link counts as there: the user is told that it cannot be read
    except OSError:  # there is no such file, or the directory may not be read
        return False
    return True


class ConfigError(ValueError):
    """Something in the file is wrong. The text begins with the number of the line."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"{line}: {text}")


def parse(content: bytes, known: Mapping[str, Variable]) -> dict[str, Any]:
    """Return the settings in a file.

    :raises ConfigError: it is not YAML, or not a mapping of known variables to values of their types.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a mapping that has a key twice: YAML would silently drop one of the two values."""

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
        # A relative one would be ambiguous: relative to the file, or to where the command is run.
        lambda value: isinstance(value, str) and (value == "" or value.startswith(("/", "~"))),
    ),
    "raw": ("anything", lambda value: True),
    "str": ("a string", lambda value: isinstance(value, str)),
}


def _check(name: str, value: Any, variable: Variable, node: Any) -> None:
    """Refuse a value that is not of its variable's type.

    :param node: where it is in the file, for the number of the line.
    :raises ConfigError: the value is not of that type.
    """
    line = node.start_mark.line + 1
    _expect(variable.type, value, name, line, f" of {_plural(variable.elements)}" if variable.elements else "")
    if variable.choices and value not in variable.choices:
        meant = nearest(str(value), variable.choices)
        hint = f": did you mean {meant}?" if meant else ""
        raise ConfigError(line, f"{name}: expected one of {', '.join(variable.choices)}, not {shown(value)}{hint}")
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
        except (TypeError, ValueError) as error:  # a date, or a value that contains itself
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
        raise ConfigError(line, f"{where}: expected {words}{of}, not {shown(value)}{quote}")


def _try(check: Callable[[], Any], name: str, line: int) -> None:
    try:
        check()
    except ValueError as error:
        text = str(error).removeprefix("EC2_BACKUP_FLAGS_AWS: ").removeprefix("EC2_BACKUP_FLAGS_SSH: ")
        raise ConfigError(line, f"{name}: {text}") from error


def _plural(kind: str) -> str:
    return {"str": "strings", "path": "absolute paths"}.get(kind, kind)


def _expanded(value: Any, variable: Variable) -> Any:
    """Replace the ``~`` of paths by the home directory."""
    if variable.type == "path":
        return os.path.expanduser(value)
    return [os.path.expanduser(each) for each in value] if variable.elements == "path" else value
