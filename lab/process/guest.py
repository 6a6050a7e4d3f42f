# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The boot of an instance that is a process tree: accounts, cloud-init's stages, sshd.

Runs as root in the instance's namespaces and root directory, where the checkout and perhaps Python's own modules cannot
be read: standard library only, and all imports at the top.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECURE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": SECURE_PATH, "HOME": "/root", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
FIRST_HUMAN = 1000
# Those of Amazon Linux. Debian has more, such as `backup`, a name that user-data may want to create.
SYSTEM_USERS = (
    *("root", "bin", "daemon", "adm", "lp", "sync", "shutdown", "halt", "mail", "operator", "games", "ftp", "nobody"),
    *("dbus", "sshd", "rpc", "chrony", "tss", "systemd-network", "systemd-oom", "systemd-resolve"),
)

# They replace systemd's programs. PID 1 takes the signals of busybox's init: USR2 powers off, TERM reboots, USR1 halts.
SHIMS = {
    "poweroff": "kill -USR2 1",
    "halt": "kill -USR1 1",
    "reboot": "kill -TERM 1",
    "shutdown": """
action=USR2 when=
for word; do
    case $word in
        -c) [ ! -f /run/shutdown.pid ] || kill -- "-$(cat /run/shutdown.pid)" 2>/dev/null
            rm -f /run/shutdown.pid
            exit 0 ;;
        -r) action=TERM ;;
        -H|--halt) action=USR1 ;;
        -*) ;;
        *) [ -n "$when" ] || when=$word ;;
    esac
done
case ${when:-+1} in
    now|0|+0) kill -"$action" 1 ;;
    +[0-9]*|[0-9]*) minutes=${when#+}
        seconds=$((${minutes:-1} * 60))
        exec </dev/null >/dev/null 2>&1
        setsid sh -c 'echo $$ >/run/shutdown.pid; sleep "$1"; kill -"$2" 1' sh "$seconds" "$action" & ;;
    *) echo "shutdown: cannot use the time '$when' here" >&2; exit 1 ;;
esac""",
    "systemctl": """
for word; do
    case $word in
        poweroff|halt|reboot) exec "/usr/sbin/$word" ;;
        -*) ;;
        *) break ;;
    esac
done
echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2
exit 1""",
}


def say(text: str) -> None:
    """Write a line to the instance's console."""
    os.write(1, f"{text}\n".encode(errors="replace"))


def kernel_line(text: str) -> None:
    """Write a line to the console with a time stamp, as the kernel does."""
    say(f"[{time.clock_gettime(time.CLOCK_BOOTTIME) % 1000:12.6f}] {text}")


def install(spec: Mapping[str, Any]) -> None:
    """Make the root directory, an overlay of this machine's, look like the AMI's.

    Removes this machine's accounts, SSH keys and settings, and replaces the programs in SHIMS.
    """
    name = spec["hostname"]
    _write("/etc/hostname", f"{name}\n")
    _write("/etc/hosts", f"127.0.0.1 localhost\n{spec['address']} {name}\n::1 localhost\n")
    _accounts()
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    shutil.rmtree("/etc/ssh/sshd_config.d", ignore_errors=True)
    for path in (
        "/etc/cron.d",
        "/var/spool/cron",
        "/etc/sudoers.d",
        "/etc/motd",
        "/etc/update-motd.d",
        "/etc/ssh/sshrc",
    ):
        _remove(path)
    for name, body in SHIMS.items():
        guard = "" if name == "systemctl" else '[ "$(id -u)" = 0 ] || { echo "must be superuser." >&2; exit 1; }\n'
        for directory in ("/usr/bin",) if name == "systemctl" else ("/usr/sbin",):
            _remove(f"{directory}/{name}")
            _write(f"{directory}/{name}", f"#!/bin/sh\n{guard}{body.strip()}\n", 0o755)
    if spec["ami"] == "netbsd":
        for program in ("sudo", "visudo", "blkid", "lsblk", "systemctl"):
            found = shutil.which(program, path=SECURE_PATH)
            if found:
                _remove(found)
        return
    _write(
        "/etc/sudoers",
        f'Defaults secure_path="{SECURE_PATH}"\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n',
        0o440,
    )
    os.makedirs("/etc/sudoers.d", mode=0o750, exist_ok=True)


def _accounts() -> None:
    """Keep the accounts in SYSTEM_USERS only.

    Passwords are ``*`` (no password matches), not ``!`` (locked: sshd would refuse keys too).
    """
    users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines() if line.count(":") == 6]
    kept = [user for user in users if user[0] in SYSTEM_USERS]
    for user in kept:
        if user[0] == "root":
            user[5], user[6] = "/root", "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    _write("/etc/passwd", "".join(":".join(user) + "\n" for user in kept))
    _write("/etc/shadow", "".join(f"{user[0]}:*:19000:0:99999:7:::\n" for user in kept), 0o640)
    groups = [line.split(":") for line in Path("/etc/group").read_text().splitlines() if line.count(":") == 3]
    groups = [group for group in groups if int(group[2]) < FIRST_HUMAN or int(group[2]) == 65534]
    _write("/etc/group", "".join(":".join([*group[:3], ""]) + "\n" for group in groups))
    for path in (
        "/etc/gshadow",
        "/etc/subuid",
        "/etc/subgid",
        "/etc/passwd-",
        "/etc/shadow-",
        "/etc/group-",
        "/etc/gshadow-",
    ):
        _remove(path)


def before_sshd(spec: Mapping[str, Any]) -> None:
    """Run bootcmd, write files, add users and keys, in cloud-init's order."""
    plan = spec["plan"]
    for line in plan["log"]:
        say(line)
    at_each_boot(spec)
    for entry in plan["files"]:
        _write_file(entry)
    for user in plan["users"]:
        try:
            _add_user(user)
        except (OSError, ValueError) as error:
            say(f"Cloud-init: users: {user['name']}: {error}")
    _authorise("root", "/root", 0, 0, plan["root_keys"])
    _host_keys(plan)


def at_each_boot(spec: Mapping[str, Any]) -> None:
    """Run bootcmd, whose frequency is ``always``. Processes that it leaves in the background go on running."""
    if spec["plan"]["bootcmd"]:
        _run_script("bootcmd", spec["plan"]["bootcmd"])


def sshd_command(spec: Mapping[str, Any]) -> list[str]:
    """Write sshd's configuration, and return its command line. sshd logs to stderr."""
    keys = sorted(str(path) for path in Path("/etc/ssh").glob("ssh_host_*_key"))
    lines = [
        f"ListenAddress {spec['address']}:22",
        *(f"HostKey {key}" for key in keys),
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "AuthorizedKeysFile .ssh/authorized_keys",
        "UsePAM no",
        "UseDNS no",
        "PrintMotd no",
        "PidFile none",
        "X11Forwarding no",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
    ]
    _write("/etc/ssh/sshd_config", "\n".join(lines) + "\n", 0o600)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    program = shutil.which("sshd", path=SECURE_PATH) or "/usr/sbin/sshd"
    return [program, "-D", "-e", "-f", "/etc/ssh/sshd_config"]


def after_sshd(spec: Mapping[str, Any]) -> None:
    """Do cloud-init's final stage: write the host keys' fingerprints to the console, run runcmd and scripts."""
    if spec["ami"] != "netbsd":
        _show_host_keys(spec["hostname"])
    for number, script in enumerate(spec["plan"]["final"]):
        _run_script(f"part-{number:03}", script)


def _show_host_keys(name: str) -> None:
    public = sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))
    say("-----BEGIN SSH HOST KEY FINGERPRINTS-----")
    for path in public:
        result = subprocess.run(
            ["ssh-keygen", "-l", "-f", path], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        say(result.stdout.strip())
    say("-----END SSH HOST KEY FINGERPRINTS-----")
    say("-----BEGIN SSH HOST KEY KEYS-----")
    for path in public:
        say(f"{' '.join(path.read_text().split()[:2])} root@{name}")
    say("-----END SSH HOST KEY KEYS-----")


def _run_script(name: str, text: str) -> None:
    path = Path("/var/lib/cloud/instance/scripts") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(str(path), text, 0o700)
    try:
        result = subprocess.run([str(path)], env=ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL, stderr=1, check=False)
    except OSError as error:
        say(f"Cloud-init: {name}: {error}")
        return
    if result.returncode:
        say(f"Cloud-init: {name} failed: exit status {result.returncode}")


def _write_file(entry: Mapping[str, Any]) -> None:
    path = Path(entry["path"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab" if entry["append"] else "wb") as handle:
            os.fchmod(handle.fileno(), entry["permissions"])
            handle.write(base64.b64decode(entry["content"]))
        user, _, group = entry["owner"].partition(":")
        os.chown(path, _number_of(user, "/etc/passwd"), _number_of(group or user, "/etc/group"))
    except (OSError, LookupError) as error:
        say(f"Cloud-init: write_files: {path}: {error}")


def _number_of(name: str, database: str) -> int:
    """Return the ID of a user or group. Not by the modules pwd and grp: they may be out of reach here.

    :raises LookupError: there is none of that name.
    """
    for line in Path(database).read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name or fields[2] == name:
            return int(fields[2])
    raise LookupError(f"no such user or group: {name}")


def _add_user(user: Mapping[str, Any]) -> None:
    name = user["name"]
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError("not a user name")
    taken = {line.split(":")[0]: int(line.split(":")[2]) for line in Path("/etc/passwd").read_text().splitlines()}
    uid = user["uid"] if user["uid"] is not None else max([999, *(n for n in taken.values() if 1000 <= n < 60000)]) + 1
    if name == "root":
        _authorise("root", "/root", 0, 0, user["keys"])
        return
    if name in taken:
        say(f"Cloud-init: User {name} already exists, skipping.")
        return
    home = user["home"] or f"/home/{name}"
    shell = user["shell"] if os.path.exists(user["shell"]) else "/bin/sh"
    gid = _group(name, uid)
    _append("/etc/passwd", f"{name}:x:{uid}:{gid}:{user['gecos']}:{home}:{shell}\n")
    _append("/etc/shadow", f"{name}:*:19000:0:99999:7:::\n")
    for group in user["groups"]:
        _group(group, None, member=name)
    if user["create_home"]:
        os.makedirs(home, exist_ok=True)
        os.chown(home, uid, gid)
        os.chmod(home, 0o700)
        _authorise(name, home, uid, gid, user["keys"])
    for rule in user["sudo"]:
        _append("/etc/sudoers.d/90-cloud-init-users", f"{name} {rule}\n", 0o440)


def _group(name: str, wanted: int | None, member: str = "") -> int:
    lines = [line.split(":") for line in Path("/etc/group").read_text().splitlines()]
    found = next((line for line in lines if line[0] == name), None)
    if found is None:
        numbers = {int(line[2]) for line in lines}
        gid = (
            wanted
            if wanted is not None and wanted not in numbers
            else max([1000, *(n for n in numbers if n < 60000)]) + 1
        )
        found = [name, "x", str(gid), ""]
        lines.append(found)
    if member:
        found[3] = ",".join([*filter(None, found[3].split(",")), member])
    _write("/etc/group", "".join(":".join(line) + "\n" for line in lines))
    return int(found[2])


def _authorise(name: str, home: str, uid: int, gid: int, keys: list[str]) -> None:
    if not keys:
        return
    directory = Path(home, ".ssh")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "authorized_keys"
    with open(path, "a") as handle:
        handle.writelines(key.strip() + "\n" for key in keys)
    for item, mode in ((directory, 0o700), (path, 0o600)):
        os.chown(item, uid, gid)
        os.chmod(item, mode)


def _host_keys(plan: Mapping[str, Any]) -> None:
    for name, value in plan["host_keys"].items():
        kind, _, half = name.partition("_")
        suffix, mode = {"private": ("", 0o600), "public": (".pub", 0o644), "certificate": ("-cert.pub", 0o644)}.get(
            half, ("", 0)
        )
        if mode:
            _write(f"/etc/ssh/ssh_host_{kind}_key{suffix}", value, mode)
    for kind in plan["key_types"]:
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", f"/etc/ssh/ssh_host_{kind}_key"]
        result = subprocess.run(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if result.returncode:
            say(f"ssh-keygen: {kind}: {result.stderr.strip()}")


def _write(path: str, text: str, mode: int = 0o644) -> None:
    with open(path, "w") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(text)


def _append(path: str, text: str, mode: int | None = None) -> None:
    with open(path, "a") as handle:
        if mode is not None:
            os.fchmod(handle.fileno(), mode)
        handle.write(text)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
