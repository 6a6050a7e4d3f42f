# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``ec2-backup completion SHELL``: what makes a shell complete our command lines."""

import argparse
from collections.abc import Sequence

from ec2_backup import completion, grammar, options
from ec2_backup.report import Report, emit_result
from ec2_backup.status import Status

EPILOG = """\
It goes where the shell looks for it; an installation has put it below its
prefix in share already.

examples:
  ec2-backup completion bash >>~/.bash_completion
  ec2-backup completion zsh >~/.zfunc/_ec2-backup    # a directory in $fpath
  ec2-backup completion fish >~/.config/fish/completions/ec2-backup.fish
"""


def parser() -> argparse.ArgumentParser:
    """The parser of ``completion``."""
    result = options.Parser(
        prog="ec2-backup completion",
        description="Print what makes a shell complete command lines of ec2-backup.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help="bash, zsh or fish")
    return result


def completion_command(argv: Sequence[str]) -> int:
    """The command ``completion``."""
    arguments = parser().parse_args(argv)
    lines = completion.SHELLS[arguments.shell](grammar.commands()).splitlines()
    return emit_result(Report("completion", None, {}), Status.DONE, {}, lines, "the completion")
