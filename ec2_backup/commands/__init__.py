# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The commands, each a module with two functions: ``parser()``, and ``main(argv)``, which returns the exit status."""

import importlib
from types import ModuleType

from ec2_backup.help.grammar import Command, read

# The command, and its module. A directory of such a name is given as ./NAME.
COMMANDS = {
    "backup": "backup",
    "restore": "restore",
    "verify": "verify",
    "list": "listing",
    "cleanup": "cleanup",
    "help": "help",
    "completion": "completion",
}


def module(name: str) -> ModuleType:
    """Return the module of a command. Imported when it is needed: ``help`` is a command that reads all of them."""
    return importlib.import_module(f"{__name__}.{COMMANDS[name]}")


def describe() -> list[Command]:
    """Return all commands there are, as their parsers describe them."""
    return [read(name, module(name).parser()) for name in COMMANDS]
