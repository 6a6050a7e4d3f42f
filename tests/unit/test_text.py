# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text from elsewhere, prepared for a message of one line."""

from __future__ import annotations

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import (
    describe_status,
    escaped,
    last_words,
    listed,
    printable,
    with_words,
)


def test_no_text_can_control_a_terminal():
    assert printable("a\x1b[31m\nä") == "a?[31m?ä"
    assert printable(None) == "None"
    assert escaped("a\x1b\n'ä") == "a\\x1b\\n'ä"
    assert escaped("plain name") == "plain name"


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [(["a"], 1, "a"), (["a", "b"], 2, "a and b"), (["a", "b"], 5, "a, b and 3 more"), (["a"], 2, "a and 1 more")],
)
def test_the_first_of_many_names_are_listed(names, count, text):
    assert listed(names, count) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [(2, "tar ended with status 2"), (-9, "tar was killed by SIGKILL"), (-99, "tar was killed by signal 99")],
)
def test_how_a_process_ended_is_put_in_words(status, text):
    assert describe_status("tar", status) == text


def test_words_follow_a_text_only_if_there_are_any():
    assert with_words("ssh failed", "no route") == "ssh failed: no route"
    assert with_words("ssh failed", "") == "ssh failed"


def test_the_last_words_are_the_last_line_with_information():
    assert last_words("one\ntwo\n@@@@@\n\n") == "two"
    assert last_words("Warning: Permanently added 'x'.\n") == "Warning: Permanently added 'x'."
    assert last_words("x" * 400) == "x" * 300
