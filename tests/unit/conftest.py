"""What every unit test is kept from: the settings of whoever runs it, and what the test before it has set."""

import pytest

from ec2_backup.status import speak_json


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-settings"))


@pytest.fixture(autouse=True)
def _text_for_people():
    """Begin, and leave the next test, with lines that are not objects: what ``--json`` asks for is for the process."""
    speak_json(False)
    yield
    speak_json(False)
