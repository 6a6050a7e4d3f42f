# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""``lab/run CMD...``: start the API server and CMD in network, mount and PID namespaces of their own.

Process tree: lab/run (outside the namespaces; it only waits) -> PID 1 of the lab (``_init``) -> the server and CMD.
When PID 1 ends for any reason, the kernel ends all processes, mounts, loop devices and namespaces of the lab.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lab.api import policy
from lab.common import environment, firewall, kernel, settings

USAGE = """usage: lab/run CMD [ARGUMENT...]
Run CMD against a fresh local EC2 and exit with its status; see docs/lab.md.
Status 2: wrong usage or settings; 69: a program or kernel feature is missing; 70: the lab did not start;
126, 127: CMD could not be run, was not found; 128+N: CMD was ended by signal N.
"""
EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE = 2, 69, 70

PROGRAMS = {"sshd": "openssh-server", "ssh-keygen": "openssh-client", "nft": "nftables", "sudo": "sudo"}
VM_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "nft": "nftables",
    "setpriv": "util-linux",
}
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
Platform = dict[str, str] | None  # the fields of vm.qemu.Platform; None where instances are process trees
SI_KERNEL = 0x80  # si_code of a signal from the terminal, which sends it to the whole foreground process group


def main(arguments: Sequence[str]) -> int:
    """Run a command in a lab of its own; the exit status is the command's."""
    command = list(arguments)
    if command[:1] == ["--"]:
        del command[0]
    if not command or command[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if command else sys.stderr)
        return 0 if command else EX_USAGE
    try:
        chosen = settings.read(os.environ)
        policy.load(chosen.policy)
    except settings.SettingsError as error:
        return _refuse(str(error), EX_USAGE)
    missing = _missing(chosen)
    if missing:
        return _refuse(missing, EX_UNAVAILABLE)
    platform = None
    if chosen.virtual:
        from lab.vm import host  # imported here because most labs do not need it

        try:
            platform = host.prepare(chosen, lambda line: print(f"lab/run: {line}", file=sys.stderr))
        except host.Unavailable as error:
            return _refuse(str(error), EX_UNAVAILABLE)
        except KeyboardInterrupt:  # while the image is built, which takes minutes
            return 128 + signal.SIGINT
    kept = os.environ.get("EC2_LAB_STATE", "")
    state = Path(kept or tempfile.mkdtemp(prefix="ec2-lab-")).absolute()
    try:
        state.mkdir(parents=True, exist_ok=True)
        found = sorted({entry.name for entry in state.iterdir()} - {"faults.json"})
        if found:
            return _refuse(
                f"EC2_LAB_STATE: {state} is not empty (it has {found[0]}): name a new or an empty directory", EX_USAGE
            )
        return _run(command, state, chosen, platform)
    except OSError as error:
        return _refuse(f"cannot start: {error}", EX_SOFTWARE)
    finally:
        if not kept:
            shutil.rmtree(state, ignore_errors=True)


def _refuse(message: str, status: int) -> int:
    print(f"lab/run: error: {message}", file=sys.stderr)
    return status


def _missing(chosen: settings.Settings) -> str:
    """Return a message that says what this machine lacks for a lab; empty if it lacks nothing."""
    if os.geteuid() != 0 and not chosen.virtual:
        return "needs root for namespaces and loop devices: run it with sudo"
    path = environment.system_path(os.environ.get("PATH", ""))
    lacking = environment.lacking(VM_PROGRAMS if chosen.virtual else PROGRAMS, path)
    if lacking:
        return lacking
    if chosen.virtual and not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun: load the kernel's tun module (modprobe tun)"
    if chosen.virtual and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs root to open /dev/net/tun: run it with sudo, or allow all users to: chmod 666 /dev/net/tun"
    if not chosen.virtual and not os.path.exists("/dev/loop-control"):
        return "no /dev/loop-control: load the kernel's loop module (modprobe loop)"
    return ""


def _run(command: list[str], state: Path, chosen: settings.Settings, platform: Platform) -> int:
    if os.geteuid() != 0:
        try:
            kernel.become_root()
        except OSError as error:
            return _refuse(
                f"needs root: on this machine only root may make namespaces ({error}): run it with sudo", EX_UNAVAILABLE
            )
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    alive, ours = os.pipe()
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(ours)
        _as_init(command, state, chosen, platform, old_mask, alive)
    os.close(alive)
    try:
        return _wait_for(child)
    finally:
        os.close(ours)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _as_init(
    command: list[str], state: Path, chosen: settings.Settings, platform: Platform, mask: set[int], alive: int
) -> NoReturn:
    status = EX_SOFTWARE
    try:
        kernel.die_with_parent(signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:
            os._exit(status)  # the parent ended before the line above took effect
        os.set_inheritable(alive, False)
        status = _init(command, state, chosen, platform, mask)
    except BaseException:  # the forked child must not return into the parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _init(command: list[str], state: Path, chosen: settings.Settings, platform: Platform, mask: set[int]) -> int:
    """Do the work of the lab's PID 1; return the exit status of the command.

    Mounts, starts the server, runs the command, reaps children and forwards signals.
    """
    kernel.make_mounts_private()
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.loopback_up()
    for name in ("volumes", "instances", "snapshots", "lab"):
        (state / name).mkdir()
    hosts = state / "lab" / "hosts"
    hosts.write_text(environment.hosts(Path("/etc/hosts"), firewall.network(chosen.virtual).caller))
    if Path("/etc/hosts").exists():
        kernel.mount(str(hosts), "/etc/hosts", None, kernel.MS_BIND)
    endpoint = _start_server(state, platform, mask)
    if not endpoint:
        log = (state / "lab" / "server.log").read_text(errors="replace").strip()
        reason = log.splitlines()[-1] if log else "it logged nothing"
        remedy = ": install this project's extra `lab`" if "No module named" in reason else ""
        return _refuse(f"the API server did not start: {reason}{remedy}", EX_SOFTWARE)
    variables = environment.for_command(os.environ, endpoint, state, chosen.region)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _exec(command, variables)
    return _wait_for(child)


def _exec(command: list[str], variables: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(command[0], command, variables)
    except FileNotFoundError:
        os._exit(_refuse(f"{command[0]}: not found", 127))
    except OSError as error:
        os._exit(_refuse(f"{command[0]}: {error.strerror}", 126))


def _start_server(state: Path, platform: Platform, mask: set[int]) -> str:
    """Start the API server, in a session of its own so that Ctrl-C does not end it.

    :returns: its URL, or an empty string if it failed.
    """
    ready, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        log = os.open(state / "lab" / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.set_inheritable(theirs, True)
        package = str(Path(__file__).resolve().parent.parent)
        arguments = f"{str(state)!r}, {theirs}, {platform!r}"
        code = f"import sys; sys.path.insert(0, {package!r}); from lab.server import main; main({arguments})"
        os.execve(sys.executable, [sys.executable, "-c", code], environment.for_server(os.environ))
    os.close(theirs)
    with open(ready) as pipe:
        return pipe.read().strip()


def _wait_for(child: int) -> int:
    """Reap children and forward signals to ``child`` until it ends; return its exit status, as a shell does."""
    while True:
        event = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if event.si_signo != signal.SIGCHLD:
            if event.si_code != SI_KERNEL:  # otherwise the terminal has sent it to the child too
                os.kill(child, event.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
