"""Puts the Ansible collection into the wheel, so that `pip install` alone is enough.

Not written as a static `force-include`: hatchling applies that to editable installs too, where
`ansible_collections/ec2_backup/ebs` is a link to the checkout, and copies would land in the checkout itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "ansible_collections/ec2_backup/ebs"
FILES = ("galaxy.yml", "LICENSE", "README.md", "CHANGELOG.md", "requirements.yml")
DIRECTORIES = ("meta", "playbooks", "plugins", "roles")


class CollectionHook(BuildHookInterface[Any]):
    """Adds each part of the collection below ansible_collections/, where Ansible looks for it by itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        build_data["force_include"].update({str(root / part): f"{TARGET}/{part}" for part in (*FILES, *DIRECTORIES)})
