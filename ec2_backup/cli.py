# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line: which command is meant. Each is a file of ``ec2_backup/commands``."""

import signal
import sys
from collections.abc import Sequence

from ec2_backup.commands.backup import backup
from ec2_backup.commands.cleanup import cleanup
from ec2_backup.commands.completion import completion_command
from ec2_backup.commands.help import help_command
from ec2_backup.commands.listing import listing
from ec2_backup.commands.restore import restore
from ec2_backup.commands.verify import verify
from ec2_backup.options import find_command
from ec2_backup.report import interrupted, user_error
from ec2_backup.status import UserError, speak_json, wants_json

# A directory of such a name is given as ./NAME.
COMMANDS = {
    "backup": backup,
    "restore": restore,
    "verify": verify,
    "list": listing,
    "cleanup": cleanup,
    "help": help_command,
    "completion": completion_command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names, ``backup`` if it names none, and return the exit status."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asks how far it is, and must not end it before it can tell
    words = list(sys.argv[1:] if argv is None else argv)
    speak_json(wants_json(words))
    name = "backup"
    try:
        found, words = find_command(words, COMMANDS)
        name = found or name
        return int(COMMANDS[name](words))
    except UserError as error:
        return user_error(name, error)
    except KeyboardInterrupt:  # before a run has begun, which catches signals itself, or after its end
        return interrupted(name)
