# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ssh's options, what its complaints mean, and waiting for a login."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host import login, ssh
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.login import WaitError, wait_for_login
from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import last_words
from tests.unit.devices import is_running, local_ssh, wait_until


def options_as_ssh_takes_them(options: list[str]) -> dict[str, str]:
    """Return what the real ssh makes of the options, by lower-case name."""
    argv = ["ssh", "-F", "none", "-G", *options, "login@203.0.113.7"]
    out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split(" ", 1) for line in out.splitlines() if " " in line)


def test_a_pinned_session_trusts_one_key_and_offers_one():
    taken = options_as_ssh_takes_them(ssh.ssh_options("/tmp/a b/known", "ec2-backup-r1", "/tmp/a b/client", True))
    assert taken["userknownhostsfile"] == "/tmp/a b/known"
    assert taken["identityfile"] == "/tmp/a b/client"
    assert taken["globalknownhostsfile"] == "/dev/null"
    assert taken["hostkeyalias"] == "ec2-backup-r1"
    assert taken["stricthostkeychecking"] in ("true", "yes")
    assert taken["hostkeyalgorithms"] == "ssh-ed25519"
    assert taken["identitiesonly"] == "yes"
    assert taken["batchmode"] == "yes"
    assert taken["controlmaster"] in ("false", "no")
    assert taken["compression"] == "no"
    assert taken["ciphers"].startswith("aes128-gcm@openssh.com,")
    assert int(taken["serveraliveinterval"]) * int(taken["serveralivecountmax"]) == 60


def test_without_cloud_init_the_first_key_is_taken_and_the_users_own_identities_serve():
    taken = options_as_ssh_takes_them(ssh.ssh_options("/tmp/known", "ec2-backup-r1", None, False))
    assert taken["stricthostkeychecking"] == "accept-new"
    assert taken["identitiesonly"] == "no"
    assert "ssh-rsa" in taken["hostkeyalgorithms"] or "rsa-sha2-512" in taken["hostkeyalgorithms"]


def test_a_users_option_in_front_wins():
    options = ["-o", "Ciphers=aes256-ctr", *ssh.ssh_options("/tmp/known", "alias", None, True)]
    assert options_as_ssh_takes_them(options)["ciphers"] == "aes256-ctr"


def test_ciphers_that_the_local_ssh_lacks_are_not_asked_for():
    options = ssh.ssh_options("/k", "a", None, True, ciphers=["aes256-ctr", "chacha20-poly1305@openssh.com"])
    assert options[-1] == "Ciphers=chacha20-poly1305@openssh.com,aes256-ctr"
    assert not any("Ciphers" in option for option in ssh.ssh_options("/k", "a", None, True, ciphers=["other"]))


def test_known_hosts_pins_the_key_to_the_alias_alone():
    assert ssh.known_hosts_line("ec2-backup-r1", "ssh-ed25519 AAAA a comment\n") == "ec2-backup-r1 ssh-ed25519 AAAA\n"


def test_a_leading_tilde_is_expanded_as_a_shell_would(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert ssh.expand_arguments(["ssh", "-i", "~/key", "a~/b"]) == ["ssh", "-i", "/home/somebody/key", "a~/b"]


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("No ED25519 host key is known for ec2-backup-r1 and you have requested strict checking.\r\n", "host key"),
        ("@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "host key"),
        ("ssh: connect to host 203.0.113.7 port 22: Connection refused", "refused connection"),
        ("ssh: connect to host 203.0.113.7 port 22: Connection timed out", "no connection"),
        ("ssh: connect to host 203.0.113.7 port 22: No route to host", "no connection"),
        ("kex_exchange_identification: Connection closed by remote host", "no connection"),
        ("Connection timed out during banner exchange", "no connection"),
        ("ec2-backup@203.0.113.7: Permission denied (publickey).", "refused login"),
        ("command-line: line 0: Bad configuration option: nonsense", "usage"),
        ("unknown option -- Z\nusage: ssh [-46AaCfGg...]", "usage"),
        ("Bad owner or permissions on /root/.ssh/config", "usage"),
        ("ssh: Could not resolve hostname instance: Name or service not known", "no address"),
        ("client_loop: send disconnect: Broken pipe", "no connection"),
        ("something else", "other"),
        ("", "other"),
    ],
)
def test_each_complaint_of_ssh_is_taken_for_what_it_is(stderr, kind):
    assert ssh.classify_complaint(stderr) == kind
    assert ssh.is_final(kind) == (kind in ("host key", "usage"))


def test_the_last_words_are_the_line_that_says_most():
    stderr = "Warning: Permanently added 'x' to the list of known hosts.\r\nlogin denied\x1b[0m\r\n@@@@@@@@@\n\n"
    assert last_words(stderr) == "login denied?[0m"
    assert last_words("") == ""


def test_the_wait_ends_with_the_first_command_that_ran(tmp_path):
    count = tmp_path / "count"
    argv = local_ssh(
        tmp_path,
        f'echo >>{count}; [ "$(wc -l <{count})" -ge 3 ] || {{ echo "Connection refused" >&2; exit 255; }}; '
        'echo "welcome to this host"; exec sh -c "$command"',
    )
    found = wait_for_login(argv, timeout=30, interval=0.01)
    assert found["attempts"] == 3
    assert found["login"] == subprocess.run(["id", "-un"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    assert found["kernel"].startswith(os.uname().sysname)


def test_a_wrong_host_key_is_refused_at_once(tmp_path):
    argv = local_ssh(tmp_path, "echo 'Host key verification failed.' >&2; exit 255")
    with pytest.raises(WaitError, match=r"host key of login@instance is not the one .*: refusing") as caught:
        wait_for_login(argv, timeout=30, interval=0.01)
    assert caught.value.attempts == 1


def test_options_that_ssh_does_not_take_are_told_at_once(tmp_path):
    with pytest.raises(WaitError, match=r"does not take its options: .*nonsense"):
        wait_for_login(["ssh", "-o", "nonsense=1", "login@127.0.0.1"], timeout=30, interval=0.01)


def test_the_deadline_message_says_what_was_waited_for_and_what_was_seen_last(tmp_path):
    argv = local_ssh(tmp_path, "echo 'login@instance: Permission denied (publickey).' >&2; exit 255")
    with pytest.raises(WaitError) as caught:
        wait_for_login(argv, timeout=0.2, interval=0.05)
    assert str(caught.value).startswith("no SSH login on login@instance within 0.2 s (")
    assert str(caught.value).endswith("seen last: login@instance: Permission denied (publickey).")


def test_a_login_whose_command_fails_is_no_login(tmp_path):
    argv = local_ssh(tmp_path, "echo 'This account is not available'; exit 1")
    with pytest.raises(WaitError, match="the command ended with status 1"):
        wait_for_login(argv, timeout=0.1, interval=0.05)


def test_an_attempt_that_hangs_is_ended_with_its_children(tmp_path):
    argv = local_ssh(tmp_path, f"sleep 600 & echo $! >{tmp_path}/pid; wait")
    start = time.monotonic()
    with pytest.raises(WaitError, match="no answer within 1 s"):
        wait_for_login(argv, timeout=0.5, interval=0.1)
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid))
    assert time.monotonic() - start < 300, "it was not waited for"


def test_an_instance_that_is_slow_is_given_more_time_with_each_attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(login, "ATTEMPT_SECONDS", 1)
    argv = local_ssh(tmp_path, 'sleep 3; exec sh -c "$command"')
    assert 2 <= wait_for_login(argv, timeout=120, interval=0.01)["attempts"] <= 6


@pytest.mark.parametrize(
    ("complaint", "connected"),
    [
        ("Connection timed out during banner exchange", True),
        ("Connection to 203.0.113.7 port 22 timed out", True),
        ("ssh: connect to host 203.0.113.7 port 22: Connection timed out", False),
        ("ssh: connect to host 203.0.113.7 port 22: Connection refused", False),
    ],
)
def test_a_handshake_that_is_slow_is_given_more_time_and_a_port_that_is_closed_is_not(tmp_path, complaint, connected):
    note = f'echo "$2" >>{tmp_path}/limits; [ "$(wc -l <{tmp_path}/limits)" -lt 6 ] || exec sh -c "$command"'
    wait_for_login(local_ssh(tmp_path, f"{note}; echo '{complaint}' >&2; exit 255"), timeout=30, interval=0.01)
    limits = [int(line.partition("=")[2]) for line in (tmp_path / "limits").read_text().splitlines()]
    assert limits == ([5, 10, 20, 40, 40, 40] if connected else [5] * 6)


def test_an_ssh_that_is_not_there_is_told(tmp_path):
    with pytest.raises(WaitError, match="/no/such/ssh could not be run"):
        wait_for_login(["/no/such/ssh", "login@instance"], timeout=1, interval=0.1)
