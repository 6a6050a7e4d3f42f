# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The version of ec2-backup, for the manifests that it writes. galaxy.yml and pyproject.toml carry the same."""

from __future__ import annotations

VERSION = "0.1.0"
