"""Puts the Ansible collection, the man pages and the shells' completion into the wheel: `pip install` alone is enough.

The collection is not written as a static `force-include`: hatchling applies that to editable installs too, where
`ansible_collections/ec2_backup/ebs` is a link to the checkout, and copies would land in the checkout itself.

The man pages and the completion are made here from the parsers of the commands, so they are always up to date. The
parsers must therefore need nothing but Python: the packages that the command needs at run time are not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "ansible_collections/ec2_backup/ebs"
FILES = ("galaxy.yml", "LICENSE", "README.md", "CHANGELOG.md", "requirements.yml")
DIRECTORIES = ("meta", "playbooks", "plugins", "roles")


def share(root: Path, version: str, directory: Path) -> Path:
    """Make what an installation has in `share` from the checkout `root`, below `directory`; return its prefix."""
    # As it will be installed: the wrapper, its metadata, and the collection.
    packages, prefix = directory / "packages", directory / "prefix"
    for name, target in (("ec2_backup", root / "ec2_backup"), (TARGET, root)):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).symlink_to(target)
    metadata = packages / f"ec2_backup-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: ec2-backup\nVersion: {version}\n")
    # -S: no site-packages, so that it works the same wherever it is built.
    command = [sys.executable, "-S", "-B", "-m", "ec2_backup.share", str(prefix)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(packages)}, cwd=directory, check=True)
    return prefix


class CollectionHook(BuildHookInterface[Any]):
    """Adds the parts of the collection below ansible_collections/, where Ansible looks for them, and `share`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        build_data["force_include"].update({str(root / part): f"{TARGET}/{part}" for part in (*FILES, *DIRECTORIES)})
        self.temporary = tempfile.TemporaryDirectory(prefix="ec2-backup-build-")
        prefix = share(root, self.metadata.version, Path(self.temporary.name))
        build_data["shared_data"][str(prefix / "share")] = "share"

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        if version != "editable":
            self.temporary.cleanup()
