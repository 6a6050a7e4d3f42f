"""Isolation of every unit test from the user's settings and from the test before it."""

import pytest

from ec2_backup.status import speak_json


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-settings"))


@pytest.fixture(autouse=True)
def _text_for_people():
    """Reset ``--json``, which is a setting of the process, before and after each test."""
    speak_json(False)
    yield
    speak_json(False)
