# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest, written by the process that streamed or by one of its own: real processes, a real block device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.ec2_backup.ebs.plugins.module_utils._format.manifest import BLOCK_BYTES, decode
from tests.unit.devices import MIB, local_ssh, loop_device, needs_root

MODULES = "ansible_collections.ec2_backup.ebs.plugins.modules."
SIZE = 48 * MIB
VOLUME = "vol-0123456789abcdef0"

# The second session is the one that writes the manifest.
SECOND_FAILS = """
if [ -e {0}/streamed ]; then echo 'ssh: connect to host: Connection refused' >&2; exit 255; fi
: >{0}/streamed; exec sh -c "$command"
"""

pytestmark = needs_root


@pytest.fixture
def device(tmp_path):
    with loop_device(tmp_path / "image", SIZE) as path:
        yield path


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(os.urandom(2 * MIB))
    return tmp_path / "source"


def run(tmp_path: Path, module: str, device: Path, ssh: str | None = None, **asked: Any) -> dict[str, Any]:
    """Run a module as Ansible does; return its result."""
    arguments = {
        "ssh": local_ssh(tmp_path, ssh) if ssh else local_ssh(tmp_path),
        "volume_id": VOLUME,
        "volume_size": SIZE,
        "device_exact": str(device),
        "run_id": "run-1",
        **asked,
    }
    path = tmp_path / "arguments"
    path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    done = subprocess.run([sys.executable, "-m", MODULES + module, str(path)], capture_output=True, check=False)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    result.pop("invocation", None)
    return result


def on_volume(device: Path) -> dict[str, Any]:
    """The document at the volume's end."""
    with device.open("rb") as file:
        file.seek(SIZE - BLOCK_BYTES)
        return decode(file.read(BLOCK_BYTES), SIZE)


def test_the_process_that_streamed_writes_the_same_manifest_as_one_of_its_own(tmp_path, source, device):
    filters = {"local_filter": "gzip -n -c", "remote_filter": "tr a-z n-za-m"}
    inverse = {"remote_inverse": "tr n-za-m a-z"}
    source_of = {"path": str(source), "host": "web1"}

    sent = run(tmp_path, "stream_send", device, **source_of, **filters, manifest=inverse)
    assert sent["manifest"] == on_volume(device)
    assert sent["manifest"]["state"] == "complete"
    assert sent["manifest"]["source"] == {"host": "web1", "path": str(source)}
    assert sent["manifest"]["filters"]["local"]["inverse"] == "gzip -dc"
    assert sent["manifest"]["filters"]["remote"]["inverse"] == "tr n-za-m a-z"

    written = run(tmp_path, "manifest_write", device, source=source_of, sent=sent, **filters, **inverse)
    assert written["manifest"] == on_volume(device)
    assert written["manifest"] == {**sent["manifest"], "finished": written["manifest"]["finished"]}


def test_no_manifest_is_written_unless_it_is_asked_for(tmp_path, source, device):
    sent = run(tmp_path, "stream_send", device, path=str(source), host="web1")
    assert "manifest" not in sent
    assert on_volume(device)["state"] == "writing"


@pytest.mark.parametrize("filters", [{"local_filter": "cat; false"}, {"remote_filter": "cat; false"}])
def test_a_stream_that_failed_gets_no_manifest_and_has_taken_the_old_one_back(tmp_path, source, device, filters):
    first = run(tmp_path, "stream_send", device, path=str(source), host="web1", manifest={})
    assert on_volume(device) == first["manifest"]

    failed = run(tmp_path, "stream_send", device, path=str(source), host="web1", force=True, manifest={}, **filters)
    assert failed["failed"]
    assert "filter ended with status 1" in failed["msg"]
    assert on_volume(device)["state"] == "writing"


def test_a_manifest_that_cannot_be_written_fails_the_module_and_says_so(tmp_path, source, device):
    ssh = SECOND_FAILS.format(tmp_path)
    failed = run(tmp_path, "stream_send", device, ssh, path=str(source), host="web1", manifest={})
    assert failed["failed"]
    assert failed["msg"].startswith("The manifest was not written: no connection to login@instance: ssh: connect to")
    assert "Connection refused" in failed["stderr_of"]["ssh"]
    assert on_volume(device)["state"] == "writing"


def test_a_manifest_that_does_not_fit_is_not_written(tmp_path, source, device):
    inverse = {"local_inverse": "x" * BLOCK_BYTES}
    asked: dict[str, Any] = {"path": str(source), "host": "web1", "local_filter": "cat", "manifest": inverse}
    failed = run(tmp_path, "stream_send", device, **asked)
    assert failed["msg"].startswith("The manifest was not written: the manifest would have ")
    assert on_volume(device)["state"] == "writing"
