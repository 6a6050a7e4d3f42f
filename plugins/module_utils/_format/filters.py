# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters: those that have names (--compress, --encrypt), and the command that undoes a filter.

The inverse is derived from the filter's command by a table of ours: text found on a volume is never executed. Pure
functions. Python 3.8, standard library only.
"""

from __future__ import annotations

import os.path
import re
import shlex

# After splitting as the shell does, a word must contain no character that is special to the shell.
_WORD = re.compile(r"[A-Za-z0-9_.,:/+=-]+\Z")
_COMMAND_LENGTH = 4096
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SIZE = r"[0-9]+(?:[KMG](?:i?B)?)?"
_COMMON = "fast|best|stdout|keep|force|quiet|verbose"

# Each is a pattern for ONE option, with its argument, that does not change the output's format. Options of the programs
# in Debian 12, each tested by a round trip. Only the end of a word may be of variable length, or the matching of a
# hostile command could take years.
_GZIP = rf"-(?=\S)[1-9cfknNqv]*|--(?:{_COMMON}|to-stdout|no-name|name|rsyncable|synchronous)"
_PIGZ = (
    rf"-(?=\S)[0-9cfikmnNqRv]*(?:[bp] ?[0-9]+)?|--(?:{_COMMON}|no-name|name|rsyncable)|--(?:processes|blocksize) [0-9]+"
)
_BZIP2 = rf"-(?=\S)[1-9cfkqsvz]*|--(?:{_COMMON}|small|compress)"
_PBZIP2 = r"-(?=\S)[1-9cfkqrvz]*(?:[bmp][0-9]+)?|--(?:fast|best)"
_LBZIP2 = rf"-(?=\S)[1-9cfkqsuvz]*(?:n ?[0-9]+)?|--(?:{_COMMON}|small|compress|sequential)"
_XZ = (
    rf"-(?=\S)[0-9cefkqQvz]*(?:T ?[0-9]+)?|--(?:{_COMMON}|to-stdout|compress|extreme|no-warn|no-adjust)"
    rf"|--threads[= ][0-9]+|--(?:block-size|memlimit-compress)[= ]{_SIZE}"
    r"|(?:-C ?|--check[= ])(?:none|crc32|crc64|sha256)|(?:-F ?|--format[= ])xz"
)
_ZSTD = (
    rf"-(?=\S)[0-9cCfkqvz]*(?:T[0-9]+|B{_SIZE})?|--(?:stdout|keep|force|quiet|verbose|compress|ultra|rsyncable|adapt)"
    r"|--(?:no-)?(?:check|progress|content-size)|--single-thread|--fast(?:=[0-9]+)?|--adapt=[a-z0-9=,]+"
    rf"|--threads[= ][0-9]+|--(?:size-hint|stream-size)={_SIZE}|--long(?:=(?:[12][0-9]|3[01]))?"
)
_PZSTD = (
    r"-(?=\S)[0-9cCfkqv]*(?:p ?[0-9]+)?|--(?:stdout|keep|force|quiet|verbose|ultra)|--(?:no-)?check|--processes [0-9]+"
)
_LZ4 = (
    r"-(?=\S)(?:[0-9cfkqvz]|B[4-7DI])*|--(?:best|stdout|keep|force|quiet|verbose|compress|favor-decSpeed)"
    r"|--fast(?:=[0-9]+)?|--(?:no-)?frame-crc"
)
_LZOP = rf"-(?=\S)[1-9cfkqv]*|--(?:{_COMMON})"
_LZIP = (
    rf"-(?=\S)[0-9cfkqv]*(?:[bs] ?{_SIZE}|m ?[0-9]+)?|--(?:{_COMMON})|--(?:dictionary-size|member-size)[= ]{_SIZE}"
    r"|--match-length[= ][0-9]+"
)
_PLZIP = (
    rf"-(?=\S)[0-9cfkqv]*(?:[Bs] ?{_SIZE}|[mn] ?[0-9]+)?|--(?:{_COMMON})|--(?:dictionary-size|data-size)[= ]{_SIZE}"
    r"|--(?:match-length|threads)[= ][0-9]+"
)
_BROTLI = r"-(?=\S)[0-9cfkvZ]+|-[qw] [0-9]+|--(?:quality|lgwin)=[0-9]+|--(?:best|stdout|keep|force|verbose)"
_COMPRESS = r"-(?=\S)[cfv]*(?:b ?[0-9]+)?"

# program: (one of its options, whether it takes "-" for stdin, what undoes it). The plain program, which each host has,
# reads the output of the parallel one. Left out on purpose: pixz, which appends an index that xz would decompress as
# data; and options for another format, a dictionary or a window, without which decompressing is impossible.
_STDIN, _NO_STDIN = "(?: -)?", ""
_KNOWN = {
    "gzip": (_GZIP, _STDIN, "gzip -dc"),
    "pigz": (_PIGZ, _STDIN, "gzip -dc"),
    "bzip2": (_BZIP2, _STDIN, "bzip2 -dc"),
    "pbzip2": (_PBZIP2, _NO_STDIN, "bzip2 -dc"),
    "lbzip2": (_LBZIP2, _NO_STDIN, "bzip2 -dc"),
    "xz": (_XZ, _STDIN, "xz -dc"),
    "zstd": (_ZSTD, _STDIN, "zstd -dc"),
    "zstdmt": (_ZSTD, _STDIN, "zstd -dc"),
    "pzstd": (_PZSTD, _NO_STDIN, "zstd -dc"),
    "lz4": (_LZ4, _STDIN, "lz4 -dc"),
    "lzop": (_LZOP, _STDIN, "lzop -dc"),
    "lzip": (_LZIP, _STDIN, "lzip -dc"),
    "plzip": (_PLZIP, _STDIN, "lzip -dc"),
    "brotli": (_BROTLI, _STDIN, "brotli -dc"),
    "compress": (_COMPRESS, _NO_STDIN, "gzip -dc"),  # gzip reads that format too, and every host has it
}
_ZSTD_WINDOW = 27  # the base-2 logarithm of the largest window that zstd decompresses without an option (128 MiB)


def known_inverse(command: str, identity: str | None = None) -> str | None:
    """Return the command that undoes a filter, from stdin to stdout, or None if it is not known for certain.

    It is known for a simple command (one program, no shell syntax, no assignments) of a compressor with options with
    which it compresses stdin to stdout; not if it decompresses, tests, lists, names files or has an unknown option. It
    is also known for an encryption as ``compose`` makes it, alone or behind such a compressor.

    :param identity: the file with the secret key, which age needs.
    """
    inverses = []
    for stage in stages(command):
        if not _encryption(stage):
            inverses.append(_compressors_inverse(stage))
        elif _encryption(stage) == "age":
            inverses.append(f"age -d -i {shlex.quote(identity)}" if identity else None)
        else:
            inverses.append(" ".join(_GPG_DECRYPTS))
    known = [inverse for inverse in reversed(inverses) if inverse is not None]
    return " | ".join(known) if len(known) == len(inverses) else None


def _compressors_inverse(command: str) -> str | None:
    words = _simple(command)
    if not words:
        return None
    program = os.path.basename(words[0])
    if program not in _KNOWN:
        return None
    option, stdin, inverse = _KNOWN[program]
    options = "".join(" " + word for word in words[1:])
    if not re.match(rf"(?: (?:{option}))*{stdin}\Z", options):
        return None
    if inverse == "zstd -dc":
        window = max((int(bits) for bits in re.findall(r"--long=([0-9]+)", options)), default=0)
        if window > _ZSTD_WINDOW:
            return f"{inverse} --long={window}"
    return inverse


def _simple(command: str) -> list[str]:
    """Return the words of a simple command; an empty list if it contains anything but plain words."""
    command = command.strip(" \t\n")
    # shlex takes line ends for blanks, a shell does not.
    if "\n" in command or "\r" in command or len(command) > _COMMAND_LENGTH:
        return []
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    return words if all(_WORD.match(word) for word in words) else []


def inverse_program(command: str) -> str:
    """Return the program that a command needs: ``gzip`` for ``gzip -dc``.

    Empty if the command begins with shell syntax, so that only a shell could know.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    for word in words:
        if not _ASSIGNMENT.match(word):
            return word if _WORD.match(word) else ""
    return ""


# ---- filters by name ------------------------------------------------------------------------------------------------


class FilterError(ValueError):
    """There is no such filter; the text is one line: what happened and what to do."""


# name: (the command, with a place for the level, the highest level). All read stdin and write to stdout.
_COMPRESSORS = {
    "zstd": ("zstd -q -T0{} -c", 22),
    "gzip": ("gzip -n{} -c", 9),
    "xz": ("xz -q -T0{} -c", 9),
    "lz4": ("lz4 -q{} -c", 12),
    "bzip2": ("bzip2 -q{} -c", 9),
}
_ZSTD_ORDINARY = 19  # the highest level without --ultra

# The user's gpg.conf may contain anything: so no key is fetched from the network, and the named one is used as it is.
_GPG = ["gpg", "--batch", "--yes", "-q", "--no-armor", "--no-auto-key-locate", "--trust-model", "always"]
_GPG_ENCRYPTS = [*_GPG, "--compress-algo", "none", "-e", "-r"]
_GPG_DECRYPTS = ["gpg", "--batch", "-q", "-d"]
_AGE_ENCRYPTS = ["age", "-r"]
_ENCRYPTIONS = {"age": _AGE_ENCRYPTS, "gpg": _GPG_ENCRYPTS}
# age(1): a native recipient or a plugin's is Bech32; or an SSH public key, perhaps with a comment.
_AGE_RECIPIENT = re.compile(r"age1[a-z0-9]+\Z|ssh-(?:ed25519|rsa) [A-Za-z0-9+/]+=*(?: [^\x00-\x1f\x7f]*)?\Z")
_GPG_RECIPIENT = re.compile(r"(?!-)[^\x00-\x1f\x7f]{1,1024}\Z")


def compressor(name: str) -> str:
    """Return the command for ``zstd``, ``zstd:19``, ``gzip`` and so on.

    :raises FilterError: the compressor is unknown, or has no such level.
    """
    program, colon, level = name.partition(":")
    if program not in _COMPRESSORS:
        raise FilterError(
            "{} is no compressor that is known: choose one of {}, or give a command with -l "
            "(ec2_backup_local_filter)".format(name, ", ".join(_COMPRESSORS))
        )
    command, highest = _COMPRESSORS[program]
    lowest = 0 if program == "xz" else 1
    if not colon:
        return command.format("")
    if not re.match(r"[0-9]{1,2}\Z", level) or not lowest <= int(level) <= highest:
        raise FilterError(f"{name}: the level of {program} is a number from {lowest} to {highest}")
    ultra = " --ultra" if program == "zstd" and int(level) > _ZSTD_ORDINARY else ""
    return command.format(f"{ultra} -{int(level)}")


def encryption(name: str) -> str:
    """Return the command for ``age:RECIPIENT`` or ``gpg:RECIPIENT``.

    :raises FilterError: the encryption is unknown, or the recipient does not have the form of one.
    """
    program, _colon, recipient = name.partition(":")
    if program not in _ENCRYPTIONS or not recipient:
        raise FilterError(f"{name} is no encryption that is known: write age:RECIPIENT or gpg:RECIPIENT")
    if program == "age" and not _AGE_RECIPIENT.match(recipient):
        hint = ": that is a secret key, which has to stay secret" if recipient.startswith("AGE-SECRET-KEY-") else ""
        shown = f" {recipient}" if recipient.isprintable() and not hint else ""
        raise FilterError(
            f"the recipient{shown} is not one of age's{hint}; give a public key, which begins with age1, "
            "ssh-ed25519 or ssh-rsa"
        )
    if program == "gpg" and not _GPG_RECIPIENT.match(recipient):
        raise FilterError("the recipient is not one of gpg's: give a key's fingerprint, or its user's address")
    return " ".join([*_ENCRYPTIONS[program], shlex.quote(recipient)])


def compose(compress: str = "", encrypt: str = "") -> str:
    """Return the command that compresses and then encrypts; empty without either.

    :raises FilterError: as for ``compressor`` and ``encryption``.
    """
    named = [compressor(compress)] if compress else []
    return " | ".join(named + ([encryption(encrypt)] if encrypt else []))


def _encryption(command: str) -> str:
    """Return the program of a command as ``encryption`` makes it; empty for any other."""
    for program, words in _ENCRYPTIONS.items():
        prefix = " ".join(words) + " "
        if not command.startswith(prefix) or len(command) > _COMMAND_LENGTH:
            continue
        try:
            recipient = shlex.split(command[len(prefix) :])
        except ValueError:
            return ""
        # Quoted exactly as ``encryption`` does: then a shell sees nothing but one word.
        if len(recipient) == 1 and command == prefix + shlex.quote(recipient[0]) and recipient[0][:1] not in ("", "-"):
            return program
    return ""


def stages(command: str) -> list[str]:
    """Return the commands of a pipeline as ``compose`` makes it; any other command is returned as one.

    Each is run by itself, so that its status is known: sh returns only the last one's.
    """
    first, pipe, last = command.partition(" | ")
    ours = pipe and first == first.strip() and _compressors_inverse(first) and _encryption(last)
    return [first, last] if ours else [command]


def inverse_stages(command: str) -> list[str]:
    """Return the commands of an inverse as ``known_inverse`` makes it: of ``age -d -i FILE | zstd -dc`` both."""
    first, pipe, last = command.rpartition(" | ")
    decrypts = first == " ".join(_GPG_DECRYPTS) or (first.startswith("age -d -i ") and len(_words(first)) == 4)
    return [first, last] if pipe and decrypts and first == " ".join(map(shlex.quote, _words(first))) else [command]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def encrypts(command: str) -> str:
    """Return the program that a filter encrypts with, ``age`` or ``gpg``, if ``compose`` made it; otherwise nothing.

    To decrypt, ``age`` needs a file with an identity; ``gpg`` has its own keys.
    """
    return _encryption(stages(command)[-1])


def programs(command: str) -> list[str]:
    """Return the programs of an inverse as ``known_inverse`` makes it."""
    words = shlex.split(command)
    return [word for before, word in zip(["|", *words], words) if before == "|"]
