"""`pip install .` alone gives a working command with its collection, outside any checkout."""

from __future__ import annotations

import os
import subprocess
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
Run = Callable[..., str]

pytestmark = pytest.mark.xdist_group("install")  # they share one environment, which takes long to make


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fresh environment with the package in it; returns a function that runs one of its commands far from here."""
    prefix = tmp_path_factory.mktemp("installed")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    venv.create(prefix, with_pip=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV"))}
    environment = {**inherited, "PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": str(elsewhere)}

    def run(*command: str) -> str:
        program, *arguments = command
        line = [str(prefix / "bin" / program), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, cwd=elsewhere, env=environment, check=False)
        assert done.returncode == 0, f"{command} left with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # Byte-compiling the package `ansible` takes longer than all the rest, and is not tested here.
    run("pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", str(ROOT))
    return run


def test_the_command_is_there_and_tells_its_usage(installed: Run) -> None:
    assert "DIR" in installed("ec2-backup", "--help")


def test_the_package_knows_its_version(installed: Run) -> None:
    assert installed("python", "-c", "import ec2_backup; print(ec2_backup.__version__)").strip() == VERSION


def test_ansible_lists_the_collection_with_its_version(installed: Run) -> None:
    listed = installed("ansible-galaxy", "collection", "list", "ec2_backup.ebs").split()
    assert listed[-2:] == ["ec2_backup.ebs", VERSION]


def test_ansible_documents_the_modules(installed: Run) -> None:
    modules = installed("ansible-doc", "--type", "module", "--list", "ec2_backup.ebs")
    assert "ec2_backup.ebs.volume_attachment" in modules


def test_ansible_finds_the_playbook_and_its_role_by_their_collection_names(installed: Run) -> None:
    tasks = installed("ansible-playbook", "ec2_backup.ebs.backup", "--list-tasks")
    assert "/ansible_collections/ec2_backup/ebs/playbooks/backup.yml" in tasks
    assert "ec2_backup.ebs.backup : " in tasks


def test_the_man_pages_and_the_completion_are_where_their_readers_look(installed: Run) -> None:
    files = installed("pip", "show", "--files", "ec2-backup").split("Files:")[1].split()
    assert {
        "../../../share/man/man1/ec2-backup.1",
        "../../../share/man/man1/ec2-backup-restore.1",
        "../../../share/bash-completion/completions/ec2-backup",
        "../../../share/fish/vendor_completions.d/ec2-backup.fish",
        "../../../share/zsh/site-functions/_ec2-backup",
    } <= set(files)
    assert "\n  completion " in installed("ec2-backup", "help")


def test_nothing_of_the_tests_and_the_lab_is_installed(installed: Run) -> None:
    files = installed("pip", "show", "--files", "ec2-backup").split("Files:")[1].split()
    ours = ("../../../bin/", "../../../share/", "ansible_collections/", "ec2_backup")
    strangers = [f for f in files if not f.startswith(ours)]
    assert strangers == []
    assert [f for f in files if "/tests/" in f or "/lab/" in f or f.endswith(".pyc")] == []
