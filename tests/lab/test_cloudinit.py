"""User-data: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html and https://docs.cloud-init.io"""

from __future__ import annotations

import base64
import gzip

from lab.process.cloudinit import Plan, plan


def read(text: str, key: str = "") -> Plan:
    return plan(text.encode(), key, "ec2-user")


def test_without_user_data_the_default_user_gets_the_key_of_the_key_pair() -> None:
    result = read("", "ssh-ed25519 AAAA")
    assert [(user.name, user.keys) for user in result.users] == [("ec2-user", ["ssh-ed25519 AAAA"])]
    assert result.root_keys[0].endswith(" ssh-ed25519 AAAA")
    assert 'command="echo' in result.root_keys[0]
    assert result.key_types


def test_a_list_of_users_without_default_makes_no_default_user() -> None:
    result = read("#cloud-config\nusers: [{name: a, ssh_authorized_keys: k, groups: 'x, y'}]\n", "pair")
    assert [(user.name, user.keys, user.groups) for user in result.users] == [("a", ["k"], ["x", "y"])]


def test_no_host_key_is_made_if_user_data_has_some() -> None:
    result = read("#cloud-config\nssh_keys: {ed25519_private: p, ed25519_public: q}\n")
    assert result.host_keys == {"ed25519_private": "p", "ed25519_public": "q"}
    assert result.key_types == []


def test_a_command_is_a_list_that_is_quoted_or_a_string_that_is_shell() -> None:
    result = read("#cloud-config\nruncmd: [[echo, 'a b'], 'echo c | cat']\n")
    assert result.final == ["#!/bin/sh\necho 'a b'\necho c | cat\n"]


def test_files_are_decoded() -> None:
    packed = base64.b64encode(gzip.compress(b"text")).decode()
    result = read(
        f"#cloud-config\nwrite_files: [{{path: /a, encoding: gz+b64, content: {packed}, permissions: '0600'}}]\n"
    )
    assert [(base64.b64decode(file.content), file.permissions) for file in result.files] == [(b"text", 0o600)]


def test_an_invalid_config_is_logged_and_ignored() -> None:
    result = read("#cloud-config\nusers: [\n", "pair")
    assert "Failed loading yaml" in result.log[0]
    assert [user.name for user in result.users] == ["ec2-user"]


def test_scripts_and_multipart_user_data_are_read() -> None:
    assert read("#!/bin/sh\ntrue\n").final == ["#!/bin/sh\ntrue\n"]
    text = (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/x-shellscript\n\n'
        "#!/bin/sh\n--b\nContent-Type: text/cloud-config\n\nruncmd: [true-ish]\n--b--\n"
    )
    assert read(text).final == ["#!/bin/sh\ntrue-ish\n", "#!/bin/sh"]
    assert "Unhandled" in read("hello").log[0]
