# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role variables that may be set, read from the roles' own argument specs."""

import dataclasses
import functools
from collections.abc import Collection, Mapping

from ec2_backup.arguments.suggest import nearest
from ec2_backup.collection import collection_directory
from ec2_backup.status import Status, UserError

PREFIX = "ec2_backup_"


FLAGS_AWS = "ec2_backup_flags_aws"


FLAGS_SSH = "ec2_backup_flags_ssh"


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a role variable may hold, with the names that its argument spec uses."""

    type: str
    elements: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False


@functools.cache
def variables() -> Mapping[str, Variable]:
    """Return all public role variables of the installed collection."""
    import yaml  # here, because importing it would make --help slow

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


def unknown(name: str, known: Collection[str]) -> str:
    """Return the message for a variable that does not exist, with the one that was probably meant."""
    short = {each.removeprefix(PREFIX): each for each in known}
    meant = nearest(name.strip("_").replace("-", "_").removeprefix(PREFIX), short)
    hint = f"did you mean {short[meant]}?" if meant else "docs/configuration.md says where they are listed"
    return f"there is no variable {name}: {hint}"


def check_names(names: Collection[str]) -> None:
    """Refuse variables that no role has: they would be ignored."""
    for name in names:
        if name not in variables():
            raise UserError(unknown(name, variables()), Status.USAGE)
