# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command line: finds the command, and runs it. Each command is a module of ``ec2_backup.commands``."""

import signal
import sys
from collections.abc import Sequence

from ec2_backup.arguments.options import find_command
from ec2_backup.commands import COMMANDS, module
from ec2_backup.show.report import interrupted, user_error
from ec2_backup.status import UserError, speak_json, wants_json


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names, ``backup`` if it names none, and return the exit status."""
    # It asks for the progress, and must not end the command before that can be shown.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    words = list(sys.argv[1:] if argv is None else argv)
    speak_json(wants_json(words))
    name = "backup"
    try:
        found, words = find_command(words, COMMANDS)
        name = found or name
        return int(module(name).main(words))
    except UserError as error:
        return user_error(name, error)
    except KeyboardInterrupt:  # before a run begins or after it has ended: the run handles signals itself
        return interrupted(name)
