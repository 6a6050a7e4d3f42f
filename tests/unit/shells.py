"""Real shells that complete a command line, as a person sees it who presses the key.

bash and zsh run on a terminal. In each there is a key that puts all completions into the line; then the line is given
to a function that prints its words between bytes that nobody types. Nothing here sleeps: the last of these bytes is
waited for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

ENVIRONMENT = {
    # A shell reads nothing of whoever runs the tests.
    **{name: value for name, value in os.environ.items() if not name.startswith(("ZDOT", "BASH", "FISH", "XDG_"))},
    "TERM": "dumb",
    "LC_ALL": "C.UTF-8",
    "INPUTRC": os.devnull,
    "PS1": "",
}
SHOW = r"""show() { printf '\001%s\002' "$@"; printf '\003'; }"""


class Typed:
    """A shell that is typed to. ``complete`` returns all that the last word of a line may become."""

    all_completions: str

    def __init__(self, command: list[str], start: list[str], directory: Path) -> None:
        self.shell = pexpect.spawn(
            command[0],
            command[1:],
            cwd=str(directory),
            env={**ENVIRONMENT, "HOME": str(directory)},
            encoding="utf-8",
            echo=False,
            timeout=60,
            dimensions=(24, 10_000),
        )
        for line in [SHOW, *start]:
            self.shell.send(f"{line}; show\n")
            self.shell.expect_exact("\003")

    def complete(self, line: str) -> set[str]:
        """What the line's last word may become; nothing if nothing is offered."""
        *_, word = line.split(" ")
        self.shell.send(f"{line}{self.all_completions}\x01show \n")  # ^A: to the beginning of the line
        self.shell.expect_exact("\003")
        before = len(line.split()) - bool(word)
        words = re.findall("\001(.*?)\002", self.shell.before or "", re.DOTALL)[before:]
        option, equals, _ = word.partition("=")
        words = [found.removeprefix(f"{option}=") for found in words] if equals else words
        return set() if words == [word.removeprefix(f"{option}=") if equals else word] else set(words) - {""}

    def close(self) -> None:
        """End the shell."""
        self.shell.close(force=True)


class Bash(Typed):
    """bash, without the package bash-completion: ours needs nothing of it."""

    all_completions = "\x1b*"  # insert-completions of readline

    def __init__(self, share: Path, directory: Path) -> None:
        start = ["bind 'set enable-bracketed-paste off'", f"source {share}/bash-completion/completions/ec2-backup"]
        super().__init__(["bash", "--norc", "--noprofile", "-i"], start, directory)


class Zsh(Typed):
    """zsh, with its completion system and our function where it looks for such."""

    all_completions = "\x18"  # what `bindkey` says below

    def __init__(self, share: Path, directory: Path) -> None:
        start = [
            "unset zle_bracketed_paste; PS1= PS2=; setopt no_prompt_sp no_prompt_cr; bindkey -e",
            f"fpath=({share}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -D -u",
            "zle -C all-matches complete-word _generic; bindkey '^X' all-matches",
            "zstyle ':completion:all-matches::::' completer _all_matches _complete",
            "zstyle ':completion:all-matches:*' insert true",
        ]
        super().__init__(["zsh", "-f", "-i"], start, directory)


class Fish:
    """fish, which can be asked what it would offer."""

    def __init__(self, share: Path, directory: Path) -> None:
        self.file = share / "fish" / "vendor_completions.d" / "ec2-backup.fish"
        self.directory = directory

    def complete(self, line: str) -> set[str]:
        """What the line's last word may become."""
        script = "source $argv[1]; complete --do-complete $argv[2]"
        done = subprocess.run(
            ["fish", "--no-config", "--command", script, str(self.file), line],
            cwd=self.directory,
            env={**ENVIRONMENT, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        found = [offered.partition("\t")[0] for offered in done.stdout.splitlines()]
        option, equals, _ = line.split(" ")[-1].partition("=")
        return {word.removeprefix(f"{option}=") if equals else word for word in found}

    def close(self) -> None:
        """Nothing runs."""


SHELLS: dict[str, type[Bash | Zsh | Fish]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def start(name: str, share: Path, directory: Path) -> Typed | Fish:
    """A shell that has our completion, from below ``share``, and that is in a directory; skips the test without it."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (tools/setup installs it)")
    return SHELLS[name](share, directory)
