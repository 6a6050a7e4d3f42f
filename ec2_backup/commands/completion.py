# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup completion SHELL``: prints the completion for a shell."""

import argparse
from collections.abc import Sequence

from ec2_backup import commands
from ec2_backup.arguments.parser import Parser
from ec2_backup.help import completion
from ec2_backup.show.report import Report, emit_result
from ec2_backup.status import Status

EPILOG = """\
Put it where the shell looks for it. An installation has it in share, below its
prefix, already.

examples:
  ec2-backup completion bash >>~/.bash_completion
  ec2-backup completion zsh >~/.zfunc/_ec2-backup    # a directory in $fpath
  ec2-backup completion fish >~/.config/fish/completions/ec2-backup.fish
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``completion``."""
    result = Parser(
        prog="ec2-backup completion",
        description="Print the completion of ec2-backup command lines for a shell.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help="bash, zsh or fish")
    return result


def main(argv: Sequence[str]) -> int:
    """Run the command ``completion``, and return the exit status."""
    arguments = parser().parse_args(argv)
    lines = completion.SHELLS[arguments.shell](commands.describe()).splitlines()
    return emit_result(Report("completion", None, {}), Status.DONE, {}, lines, "the completion")
