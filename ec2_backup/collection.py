# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finding the Ansible collection."""

import importlib.util
from pathlib import Path

COLLECTION = "ec2_backup.ebs"


def collection_directory() -> Path:
    """Return the directory of the collection that was installed with this package.

    :raises RuntimeError: there is none.
    """
    spec = importlib.util.find_spec(f"ansible_collections.{COLLECTION}")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"the collection {COLLECTION} is not installed beside the package ec2-backup")
    return Path(next(iter(spec.submodule_search_locations)))
