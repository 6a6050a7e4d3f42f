# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""botocore's description of EC2's API, read once for a whole play.

Each client reads it anew, which takes 0.2 s of CPU time: it is 1 MB of compressed JSON. ``load`` reads it in the
process that the workers are forked from. ``use`` makes the sessions of a module's process find it there.
"""

from __future__ import annotations

from typing import Any

_loader: Any = None


def load() -> None:
    """Read the description.

    :raises ImportError: there is no boto3 for this interpreter.
    """
    global _loader
    if _loader is not None:
        return
    import boto3  # noqa: F401  # the modules import it, too
    import botocore.loaders

    loader = botocore.loaders.create_loader()
    # What a client of EC2 asks for, with the very same arguments: they are the key under which it is kept.
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("ec2", kind, api_version=None)
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    _loader = loader


def use() -> None:
    """Make all further sessions of this process use what ``load`` has read; nothing if it has read nothing.

    For a process that runs one module. A session whose configuration names a directory of other descriptions
    (AWS_DATA_PATH) is left alone.
    """
    if _loader is None:
        return
    import botocore.session

    create = botocore.session.create_loader

    def create_or_share(search_path_string: str | None = None) -> Any:
        return create(search_path_string) if search_path_string else _loader

    botocore.session.create_loader = create_or_share
