# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files that an installation has in ``share``: man pages, and completion for shells.

The build of the wheel writes them with ``python -m ec2_backup.share PREFIX`` (tools/hatch_build.py). At that time no
other package is installed, so neither this module nor a ``parser()`` may import one.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from ec2_backup.commands import describe
from ec2_backup.help import completion, manual

COMPLETIONS = {
    "bash": "share/bash-completion/completions/ec2-backup",
    "fish": "share/fish/vendor_completions.d/ec2-backup.fish",
    "zsh": "share/zsh/site-functions/_ec2-backup",
}


def files() -> Iterator[tuple[str, str]]:
    """Yield the path below the prefix and the text of each file."""
    commands = describe()
    for name, text in manual.pages(commands).items():
        yield f"share/man/man1/{name}.1", text
    for shell, path in COMPLETIONS.items():
        yield path, completion.SHELLS[shell](commands)


def write(prefix: Path) -> None:
    """Write all files below a directory."""
    for path, text in files():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
