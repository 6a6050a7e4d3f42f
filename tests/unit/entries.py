"""A backup as the role ``catalog`` tells of it."""

from __future__ import annotations

from typing import Any


def entry(**changes: Any) -> dict[str, Any]:
    """A complete backup, but for the changes."""
    return {
        "volume_id": "vol-0123456789abcdef0",
        "name": None,
        "run_id": "r1",
        "source_host": "web1",
        "source_path": "/srv/data",
        "state": "complete",
        "bytes": 1500000000,
        "created": "2026-11-20T11:00:00Z",
        "finished": "2026-11-20T12:00:00Z",
        "age_seconds": 180000,
        "zone": "us-east-1a",
        "size_gib": 3,
        "volume_type": "gp3",
        "encrypted": True,
        "volume_state": "available",
        "price_per_month": 0.24,
        **changes,
    }
