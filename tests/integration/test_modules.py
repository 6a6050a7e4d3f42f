"""The modules of the data path, called one by one with an instance of the lab."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.harness import running_lab

GIB = 1024**3


def module(tmp_path: Path, name: str, **arguments: Any) -> dict[str, Any]:
    """Run a module of ours by Ansible; return its result."""
    results = tmp_path / "results"
    argv = ["ansible", "localhost", "--module-name", f"ec2_backup.ebs.{name}", "--args", json.dumps(arguments)]
    done = subprocess.run([*argv, "--tree", str(results)], capture_output=True, text=True, check=False)
    assert (results / "localhost").exists(), done
    result = json.loads((results / "localhost").read_text())
    assert isinstance(result, dict)
    return result


def test_the_process_that_streams_writes_the_manifest_and_it_reads_as_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(100_000))
    with running_lab(tmp_path) as lab, lab.network():
        volume = lab.create_volume()
        instance = lab.launch(Placement={"AvailabilityZone": "us-east-1a"})
        address = lab.login(instance)
        lab.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
        there = {"ssh": lab.ssh_argv(address), "volume_id": volume, "volume_size": GIB}

        asked = {"path": str(source), "host": "web1", "run_id": "run-1", "local_filter": "gzip -n -c"}
        sent = module(tmp_path, "stream_send", **there, **asked, manifest={})
        assert sent["manifest"]["state"] == "complete", sent

        found = module(tmp_path, "manifest_info", **there)
        assert found["manifest"] == sent["manifest"]
        assert found["local_inverse"] == "gzip -dc"
