"""What is shipped: one version everywhere, and a collection tarball of what Ansible reads and nothing else."""

from __future__ import annotations

import subprocess
import tarfile
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GENERATED = {"FILES.json", "MANIFEST.json"}
SHIPPED_DIRECTORIES = {"docs", "meta", "playbooks", "plugins", "roles"}
SHIPPED_FILES = {"CHANGELOG.md", "LICENSE", "README.md", "requirements.yml"}


def test_the_collection_carries_the_version_of_the_python_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == project["version"]


def test_the_collection_builds_without_a_warning_and_holds_what_ansible_reads_only(tmp_path: Path) -> None:
    build = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr

    with tarfile.open(next(tmp_path.glob("ec2_backup-ebs-*.tar.gz"))) as tarball:
        names = {member.name for member in tarball if member.isfile()} - GENERATED
    assert {Path(name).parts[0] for name in names} - SHIPPED_DIRECTORIES == SHIPPED_FILES
    assert [name for name in names if name.endswith((".pyc", "~")) or "/." in name] == []
    for room in ("_account", "_device", "_format", "_host"):
        assert f"plugins/module_utils/{room}/__init__.py" in names
    assert "plugins/modules/stream_send.py" in names
    assert "playbooks/backup.yml" in names
