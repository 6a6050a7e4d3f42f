# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The session's keys and the wait for a login, as modules, against a real sshd that has the session's host key."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.devices import needs_root

MODULES = "ansible_collections.ec2_backup.ebs.plugins.modules"


def run_module(name: str, directory: Path, check: bool = False, **asked: Any) -> dict[str, Any]:
    """Run a module as Ansible does; return its result."""
    arguments = directory / f"{name}.json"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, **asked}}))
    argv = [sys.executable, "-m", f"{MODULES}.{name}", str(arguments)]
    out = subprocess.run(argv, check=False, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(out)
    return result


@contextlib.contextmanager
def sshd(directory: Path, host_key: str, authorized: str) -> Iterator[int]:
    """Run an sshd with that host key, which lets in that key; yield its port."""
    (directory / "sshd_key").write_text(host_key)
    (directory / "sshd_key").chmod(0o600)
    (directory / "authorized").write_text(authorized + "\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = [f"ListenAddress=127.0.0.1:{port}", f"HostKey={directory}/sshd_key", "StrictModes=no", "PidFile=none"]
    settings += [f"AuthorizedKeysFile={directory}/authorized", "UsePAM=no", "PermitRootLogin=yes"]
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *[word for one in settings for word in ("-o", one)]]
    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


def test_the_session_is_private_and_holds_no_host_key(tmp_path):
    session = run_module("session_open", tmp_path, run_id="r1", directory_base=str(tmp_path))
    assert session["changed"]
    directory = Path(session["directory"])
    assert directory.parent == tmp_path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in directory.iterdir()) == ["client", "client.pub", "known_hosts"]
    assert stat.S_IMODE(Path(session["client_key"]).stat().st_mode) == 0o600
    assert session["client_public_key"].split()[0] == "ssh-ed25519"
    assert session["client_public_key"].split()[2] == "r1"
    assert session["host_private_key"].endswith("-----END OPENSSH PRIVATE KEY-----\n")
    pinned = ["ec2-backup-r1", *session["host_public_key"].split()[:2]]
    assert Path(session["known_hosts"]).read_text().split() == pinned


def test_a_session_that_cannot_be_made_says_why_and_leaves_nothing(tmp_path):
    result = run_module("session_open", tmp_path, run_id="r1", directory_base=str(tmp_path / "absent"))
    assert result["msg"] == f"the session's keys could not be made in {tmp_path}/absent: No such file or directory"


@pytest.mark.parametrize("program", ["exit 1", "echo no space left on device >&2; exit 1"])
def test_a_failing_ssh_keygen_leaves_nothing(tmp_path, monkeypatch, program):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh-keygen").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "bin" / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "base").mkdir()
    result = run_module("session_open", tmp_path, run_id="r1", directory_base=str(tmp_path / "base"))
    assert result["failed"]
    assert "ssh-keygen ended with status 1" in result["msg"]
    assert list((tmp_path / "base").iterdir()) == []


@needs_root
def test_the_login_is_made_with_the_sessions_keys_and_no_other_host_is_trusted(tmp_path):
    session = run_module("session_open", tmp_path, run_id="r1", directory_base=str(tmp_path))
    other = run_module("session_open", tmp_path, run_id="r2", directory_base=str(tmp_path))
    for mine, good in ((session, True), (other, False)):
        with sshd(tmp_path, mine["host_private_key"], session["client_public_key"]) as port:
            argv = ["ssh", "-F", "none", *session["ssh_options"], "-p", str(port), "root@127.0.0.1"]
            found = run_module("ssh_wait", tmp_path, ssh=argv, timeout=20, interval=0.05)
        if good:
            assert found["login"] == "root"
        else:
            assert found["msg"].startswith("the host key of root@127.0.0.1 is not the one that was given")
            assert found["elapsed"] < 10


@needs_root
def test_without_cloud_init_the_first_host_key_is_held_to(tmp_path):
    session = run_module(
        "session_open",
        tmp_path,
        run_id="r1",
        directory_base=str(tmp_path),
        host_key_checking="accept-new",
        offer_client_key=True,
    )
    assert Path(session["known_hosts"]).read_text() == ""
    other = run_module("session_open", tmp_path, run_id="r2", directory_base=str(tmp_path))
    for mine, good in ((session, True), (session, True), (other, False)):
        with sshd(tmp_path, mine["host_private_key"], session["client_public_key"]) as port:
            argv = ["ssh", "-F", "none", *session["ssh_options"], "-p", str(port), "root@127.0.0.1"]
            found = run_module("ssh_wait", tmp_path, ssh=argv, timeout=20, interval=0.05)
        assert (found.get("login") == "root") is good


def test_in_check_mode_the_keys_are_gone_at_once_and_nothing_is_waited_for(tmp_path):
    (tmp_path / "base").mkdir()
    session = run_module("session_open", tmp_path, check=True, run_id="r1", directory_base=str(tmp_path / "base"))
    assert session["client_public_key"].startswith("ssh-ed25519 ")
    assert list((tmp_path / "base").iterdir()) == []
    assert run_module("ssh_wait", tmp_path, check=True, ssh=["false"])["skipped"]
