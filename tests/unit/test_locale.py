"""Ansible starts only in an existing UTF-8 locale; a backup has to start in any."""

import locale
import os
import subprocess

import pytest

from ec2_backup.run.environment import locale_for_ansible

NAMES = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES")


@pytest.fixture(autouse=True)
def _no_locale(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "environment",
    [{}, {"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "xx_YY.UTF-8"}, {"LC_ALL": "xx_YY.UTF-8"}],
)
def test_a_locale_that_ansible_refuses_is_replaced_by_one_with_utf_8(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert locale_for_ansible() == {"LC_ALL": "C.UTF-8"}


def test_ansible_starts_in_that_one(monkeypatch):
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    started = {**os.environ, **locale_for_ansible()}
    subprocess.run(["ansible-playbook", "--version"], env=started, check=True, capture_output=True)


def test_a_locale_with_utf_8_is_left_alone(monkeypatch):
    monkeypatch.setenv("LANG", "C.UTF-8")
    before = locale.setlocale(locale.LC_ALL)
    assert locale_for_ansible() == {}
    assert locale.setlocale(locale.LC_ALL) == before
