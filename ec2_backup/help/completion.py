# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Completion for bash, zsh and fish, made from the commands' parsers.

It is not made by shtab, which does this for parsers with subcommands, for two reasons. Here the command may be left
out, so the first word is a command or a directory, which shtab cannot express. And where nothing can be offered, as for
a volume's ID, its bash completion offers file names.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from ec2_backup.help.grammar import DEFAULT, PROGRAM, Command, Operand, Option, common_names, default, names

DIRECTORIES, FILES = "directories", "files"

PATHS = {"DIR": DIRECTORIES, "TARGET": DIRECTORIES, "FILE": FILES}
"""The arguments that are paths on this machine, by their names in the usage. Others cannot be completed."""

HEAD = "# Completion of ec2-backup, made from its parsers: change those."


def values(argument: Option | Operand) -> tuple[str, ...] | str:
    """Return the possible values: words, or ``DIRECTORIES`` or ``FILES``; no words if they are not known."""
    if argument.choices:
        odd = [choice for choice in argument.choices if not re.fullmatch(r"[\w.+-]+", choice, re.ASCII)]
        if odd:  # they are written into the shells' code without quotes
            raise ValueError(f"choices that a shell may misunderstand: {odd}")
        return argument.choices
    return PATHS.get(argument.argument or "", ())


# ---- bash -----------------------------------------------------------------------------------------------------------

BASH = """\
{head}

# Sets `values` to what can stand after the option $2 of the command $1, or as its operand number $2, from 0:
# words, `directories`, `files`, or nothing that is known. Fails if nothing can.
_ec2_backup_values() {{
    case "$1 $2" in
{values}
        *) return 1 ;;
    esac
}}

_ec2_backup() {{
    local commands={commands}
    local common={common}  # these may stand before the command
    # bash splits words at = and : too. Here an option's value is one word, and so is --option=value.
    local -a words=()
    local word glue=
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD}}"; do
        if ((${{#words[@]}})) && [[ $glue || $word == [=:]* ]]; then words[-1]+=$word; else words+=("$word"); fi
        glue=
        if [[ $word == *[=:] ]]; then glue=1; fi
    done
    local cur=${{words[-1]}}
    unset 'words[-1]'

    local command='' option='' operands=0 only_operands='' values=''
    for word in "${{words[@]}}"; do
        if [[ $option ]]; then
            option=''
        elif [[ ! $command && " $commands " == *" $word "* ]]; then
            command=$word
        elif [[ $only_operands || $word != -?* ]]; then
            command=${{command:-{default}}}
            ((++operands))
        else
            if [[ " $common " != *" ${{word%%=*}} "* ]]; then command=${{command:-{default}}}; fi
            if [[ $word == -- ]]; then only_operands=1; fi
            if _ec2_backup_values "${{command:-{default}}}" "$word"; then option=$word; fi
        fi
    done

    COMPREPLY=()
    if [[ $option ]]; then
        _ec2_backup_values "${{command:-{default}}}" "$option"
    elif [[ ! $only_operands && $cur == --*=* ]]; then
        _ec2_backup_values "${{command:-{default}}}" "${{cur%%=*}}" || return 0
    elif [[ ! $only_operands && $cur == -* ]]; then
        case ${{command:-{default}}} in
{options}
        esac
    elif [[ ! $command ]]; then
        compopt -o filenames -o plusdirs
        values=$commands
    else
        _ec2_backup_values "$command" "$operands" || return 0
    fi
    # What is completed is what stands behind the last = or :, as bash sees it.
    cur=${{cur##*[=:]}}
    case $values in
        # bash completes these itself, if there is no reply: it knows best what has to be quoted.
        directories) compopt -o filenames -o dirnames ;;
        files) compopt -o filenames -o default ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur") ;;
    esac
}}

complete -F _ec2_backup {program}
"""


def bash(commands: Sequence[Command]) -> str:
    """Return the file ``bash-completion/completions/ec2-backup``. It needs bash 4.4, and nothing of bash-completion."""
    return BASH.format(
        head=HEAD,
        program=PROGRAM,
        default=DEFAULT,
        commands=_bash_words([command.name for command in commands]),
        common=_bash_words(common_names(commands)),
        values="\n".join(_bash_values(commands)),
        options="\n".join(
            f"            {command.name}) values={_bash_words(names(command.options))} ;;" for command in commands
        ),
    )


def _bash_values(commands: Sequence[Command]) -> Iterator[str]:
    for command in commands:
        for option in command.options:
            if option.argument is not None:
                patterns = "|".join(f"'{command.name} {name}'" for name in option.names)
                yield f"        {patterns}) values={_bash_words(values(option))} ;;"
        for place, operand in enumerate(command.operands):
            pattern = f"'{command.name} '[0-9]*" if operand.repeats else f"'{command.name} {place}'"
            yield f"        {pattern}) values={_bash_words(values(operand))} ;;"


def _bash_words(words: Iterable[str] | str) -> str:
    return shlex.quote(words if isinstance(words, str) else " ".join(words))


# ---- zsh ------------------------------------------------------------------------------------------------------------

ZSH = """\
#compdef {program}
{head}

_ec2-backup() {{
  local -a described=(
{described}
  )
  local -a names=({names})
  local -a common=({common})  # these may stand before the command
  local -a valued=({valued})  # of these, the ones that take a value
  local command='' word i skip
  for (( i = 2; i < CURRENT; i++ )); do
    word=$words[i]
    if [[ -n $skip ]]; then
      skip=
    elif (( $names[(Ie)$word] )); then
      command=$word
      words[i]=()
      (( CURRENT-- ))
      break
    elif (( ! $common[(Ie)${{word%%=*}}] )); then
      command={default}
      break
    elif (( $valued[(Ie)$word] )); then
      skip=1
    fi
  done
  if [[ -z $command && -z $skip && $words[CURRENT] != -* ]]; then
    local ret=1
    _describe -t commands command described && ret=0
    _directories && ret=0
    return ret
  fi
  case ${{command:-{default}}} in
{cases}
  esac
}}

# From $fpath the file is the function's body; sourced, it only says what the function is for.
if [[ $funcstack[1] == _ec2-backup ]]; then
  _ec2-backup "$@"
else
  compdef _ec2-backup {program}
fi
"""


def zsh(commands: Sequence[Command]) -> str:
    """Return the file ``zsh/site-functions/_ec2-backup``."""
    return ZSH.format(
        head=HEAD,
        program=PROGRAM,
        default=DEFAULT,
        described="\n".join(f"    {shlex.quote(command.name + ':' + command.summary)}" for command in commands),
        names=" ".join(command.name for command in commands),
        common=" ".join(common_names(commands)),
        valued=" ".join(sorted({*common_names(commands)} & {*names(_valued(default(commands)))})),
        cases="\n".join(_zsh_case(command) for command in commands),
    )


def _zsh_case(command: Command) -> str:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    specs += [_zsh_operand(operand, place) for place, operand in enumerate(command.operands, 1)]
    lines = [f"    ({command.name})", "      _arguments -s -S \\", *(f"        {spec} \\" for spec in specs[:-1])]
    return "\n".join([*lines, f"        {specs[-1]}", "      ;;"])


def _zsh_option(option: Option) -> Iterator[str]:
    others = "*" if option.repeats else "(" + " ".join(option.names) + ")" if len(option.names) > 1 else ""
    explained = "[" + re.sub(r"([\\\[\]])", r"\\\1", option.help) + "]"
    for name in option.names:
        takes = f":{_zsh_message(option.argument)}:{_zsh_action(option)}" if option.argument is not None else ""
        # `--option=value` and `--option value`; `-ovalue` and `-o value`
        attached = "" if not takes else "=" if name.startswith("--") else "+"
        yield shlex.quote(f"{others}{name}{attached}{explained}{takes}")


def _zsh_operand(operand: Operand, place: int) -> str:
    position = "*" if operand.repeats else str(place) if operand.required else f"{place}:"
    return shlex.quote(f"{position}:{_zsh_message(operand.argument)}:{_zsh_action(operand)}")


def _zsh_message(text: str) -> str:
    return re.sub(r"([\\:])", r"\\\1", text)


def _zsh_action(argument: Option | Operand) -> str:
    known = values(argument)
    if isinstance(known, str):
        return {DIRECTORIES: "_directories", FILES: "_files"}[known]
    return f"({' '.join(known)})" if known else " "  # a blank: the message alone


# ---- fish -----------------------------------------------------------------------------------------------------------

FISH = """\
{head}

# Whether the command is $argv[1] (empty: none is named yet; the default one holds then too), and the operand that comes
# next, counted from 0, is one of those from $argv[2] to $argv[3], if they are given.
function __fish_ec2_backup_at
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l command
    set -l valued {default_valued}
    set -l operands 0
    set -l value no
    set -l only_operands no
    for word in $words[2..]
        if test $value = yes
            set value no
        else if test -z "$command"; and contains -- $word {commands}
            set command $word
            switch $command
{valued}
            end
        else if test $only_operands = yes; or not string match -qr -- '^-.' $word
            test -n "$command"; or set command {default}
            set operands (math $operands + 1)
        else
            # These may stand before the command.
            if test -z "$command"; and not contains -- (string split -f1 = -- $word) {common}
                set command {default}
            end
            if test "$word" = --
                set only_operands yes
            else if contains -- $word $valued
                set value yes
            end
        end
    end
    if test -z "$argv[1]"
        test -z "$command"
        return
    end
    test -n "$command"; or set command {default}
    test $command = $argv[1]; or return
    if set -q argv[2]
        test $operands -ge $argv[2]; and test $operands -le $argv[3]
    end
end

complete -c {program} -f
{completions}
"""


def fish(commands: Sequence[Command]) -> str:
    """Return the file ``fish/vendor_completions.d/ec2-backup.fish``."""
    return FISH.format(
        head=HEAD,
        program=PROGRAM,
        default=DEFAULT,
        commands=" ".join(command.name for command in commands),
        common=" ".join(common_names(commands)),
        default_valued=" ".join(names(_valued(default(commands)))),
        valued="\n".join(
            f"{' ' * 16}case {command.name}\n{' ' * 20}" + " ".join(["set valued", *names(_valued(command))])
            for command in commands
        ),
        completions="\n".join(line for command in commands for line in _fish_command(command)),
    )


def _valued(command: Command) -> Iterator[Option]:
    return (option for option in command.options if option.argument is not None)


def _fish_command(command: Command) -> Iterator[str]:
    complete = f"complete -c {PROGRAM} -n"
    yield f"{complete} '__fish_ec2_backup_at \"\"' -a {command.name} -d {_fish_quote(command.summary)}"
    for option in command.options:
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
        takes = "" if option.argument is None else " " + (_fish_values(option) or "-x")
        yield f"{complete} '__fish_ec2_backup_at {command.name}' {names}{takes} -d {_fish_quote(option.help)}"
    for place, operand in enumerate(command.operands):
        known = _fish_values(operand)
        if known:
            last = 9999 if operand.repeats else place
            yield f"{complete} '__fish_ec2_backup_at {command.name} {place} {last}' {known}"


def _fish_values(argument: Option | Operand) -> str:
    known = values(argument)
    if isinstance(known, str):
        return {DIRECTORIES: "-x -a '(__fish_complete_directories)'", FILES: "-r -F"}[known]
    return f"-x -a '{' '.join(known)}'" if known else ""


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
