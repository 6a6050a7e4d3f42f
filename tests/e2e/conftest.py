"""Labs whose instances are virtual machines: `make e2e`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Lab, make_lab

__all__ = ["make_lab"]


@pytest.fixture
def make_vm_lab(make_lab: Callable[..., Lab]) -> Callable[..., Lab]:
    """Return a function that starts a lab of virtual machines, with more settings."""

    def make(**settings: str) -> Lab:
        return make_lab(EC2_LAB_INSTANCES="vm", **settings)

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    return tmp_path / "data"
