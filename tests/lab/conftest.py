"""One lab, with short times, that most tests share. A test that needs other settings starts a lab of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.harness import Lab, running_lab


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The shared lab, with this process in its network namespace."""
    with shared_lab.network():
        yield shared_lab
        shared_lab.set_faults({})
