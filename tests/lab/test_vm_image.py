"""The cache of images and the hash of the recipe. No image is built here; `make e2e` builds one."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from lab.api import images
from lab.process import cloudinit
from lab.vm import image

# A stand-in for recipe/build, with the same arguments and output files.
BUILD = '#!/bin/sh\necho "$1" >>"{count}"\ncd "$2" && touch kernel initrd disk && echo UUID=1234 >root\n'


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quick recipe in place of the real one. Each build adds a line to tmp_path/count."""
    directory = tmp_path / "recipe"
    directory.mkdir()
    set_build(directory, BUILD.format(count=tmp_path / "count"))
    monkeypatch.setattr(image, "RECIPE", directory)
    monkeypatch.setattr(image, "PROGRAMS", {"sh": "dash"})
    monkeypatch.setattr(image, "ROOTLESS", {})
    return directory


def set_build(recipe: Path, text: str) -> None:
    (recipe / "build").write_text(text)
    (recipe / "build").chmod(0o755)


def environ(tmp_path: Path) -> dict[str, str]:
    return {"EC2_LAB_CACHE": str(tmp_path / "cache"), "PATH": os.defpath}


def quiet(line: str) -> None:
    pytest.fail(f"unexpected message: {line}")


def real_files() -> list[Path]:
    return sorted(path.relative_to(image.RECIPE) for path in image.RECIPE.rglob("*") if path.is_file())


@pytest.mark.parametrize("changed", real_files(), ids=str)
def test_any_change_of_the_recipe_changes_the_hash(changed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "recipe"
    shutil.copytree(image.RECIPE, copy)
    before = image.recipe_hash(image.RECIPE, image.RELEASE)
    assert image.recipe_hash(copy, image.RELEASE) == before
    with (copy / changed).open("a") as file:
        file.write("\n")
    after = image.recipe_hash(copy, image.RELEASE)
    (copy / changed).rename(copy / "renamed")
    assert len({before, after, image.recipe_hash(copy, image.RELEASE)}) == 3


def test_a_change_of_an_executable_bit_changes_the_hash(recipe: Path) -> None:
    before = image.recipe_hash(recipe, "bookworm")
    (recipe / "build").chmod(0o644)
    assert image.recipe_hash(recipe, "bookworm") != before


def test_another_debian_release_changes_the_hash(recipe: Path) -> None:
    hashes = {image.recipe_hash(recipe, release) for release in ("bookworm", "trixie")}
    assert len(hashes) == 2
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in hashes)


def test_the_image_is_built_once_and_then_taken_from_the_cache(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    built = image.ensure(said.append, environ(tmp_path))
    assert len(said) == 1
    assert str(built.directory) in said[0]
    assert built.directory.parent == tmp_path / "cache" / "images"
    assert built.directory.name == image.recipe_hash(recipe, image.RELEASE)
    assert built.kernel.exists()
    assert built.initrd.exists()
    assert built.disk.exists()
    assert built.root == "UUID=1234"
    assert image.ensure(quiet, environ(tmp_path)) == built
    assert (tmp_path / "count").read_text().split() == [image.RELEASE]


def test_an_image_in_the_cache_needs_no_programs_and_no_lock(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = image.ensure(lambda line: None, environ(tmp_path))
    for other in built.directory.parent.iterdir():
        if other != built.directory:
            other.unlink()
    monkeypatch.setattr(image, "PROGRAMS", {"no-such-program": "no-such-package"})
    assert image.ensure(quiet, environ(tmp_path)) == built
    assert list(built.directory.parent.iterdir()) == [built.directory]


def test_a_build_that_fails_leaves_only_its_log_and_the_message_has_the_cause(recipe: Path, tmp_path: Path) -> None:
    set_build(
        recipe,
        """#!/bin/sh
        touch "$2/disk"
        echo 'I: installing'
        echo 'E: Unable to locate package no-such-package' >&2
        echo 'E: apt-get update failed' >&2
        exit 1
        """,
    )
    with pytest.raises(image.ImageError) as caught:
        image.ensure(lambda line: None, environ(tmp_path))
    log = tmp_path / "cache" / "images" / f"{image.recipe_hash(recipe, image.RELEASE)}.log"
    assert str(caught.value) == (
        f"cannot build the image of virtual machines: Unable to locate package no-such-package (log: {log})"
    )
    assert "I: installing" in log.read_text()
    assert sorted(path.suffix for path in log.parent.iterdir()) == [".lock", ".log"]


def test_the_remains_of_a_killed_build_are_removed_and_not_used(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "cache" / "images"
    partial = store / f"{image.recipe_hash(recipe, image.RELEASE)}.partial"
    partial.mkdir(parents=True)
    (partial / "packages.tar").touch()
    built = image.ensure(lambda line: None, environ(tmp_path))
    assert sorted(path.name for path in built.directory.iterdir()) == ["disk", "initrd", "kernel", "root"]
    assert not partial.exists()


def test_two_labs_that_start_together_build_one_image(recipe: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    build = BUILD.format(count=tmp_path / "count")
    set_build(recipe, build.replace("cd ", f'read -r _ <"{go}"; cd '))
    waits = threading.Event()

    def say(line: str) -> None:
        if "waiting for another lab" in line:
            waits.set()

    found: list[image.Built] = []
    labs = [threading.Thread(target=lambda: found.append(image.ensure(say, environ(tmp_path)))) for _ in range(2)]
    for lab in labs:
        lab.start()
    assert waits.wait(20)
    go.write_text("\n")
    for lab in labs:
        lab.join()
    assert found[0] == found[1]
    assert (tmp_path / "count").read_text().split() == [image.RELEASE]


def test_programs_that_a_build_needs_are_named_with_their_packages() -> None:
    text = "cannot build the image of virtual machines: mmdebstrap, sfdisk, mke2fs not found:"
    assert image.missing("", root=True) == f"{text} apt-get install e2fsprogs fdisk mmdebstrap"
    assert "fakeroot" in image.missing("", root=False)


def test_nothing_is_built_while_a_program_is_missing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "PROGRAMS", {"no-such-program": "some-package"})
    with pytest.raises(image.ImageError, match=r"no-such-program not found: apt-get install some-package$"):
        image.ensure(quiet, environ(tmp_path))
    assert [path.suffix for path in (tmp_path / "cache" / "images").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named_in_the_message(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(image.ImageError, match=r"cannot build the image of virtual machines in .*/cache/images: "):
        image.ensure(quiet, environ(tmp_path))


def test_images_are_in_the_users_cache_by_default() -> None:
    assert image.images({"HOME": "/home/me"}) == Path("/home/me/.cache/ec2-lab/images")
    assert image.images({"HOME": "/home/me", "XDG_CACHE_HOME": "/c"}) == Path("/c/ec2-lab/images")
    assert image.images({"HOME": "/home/me", "XDG_CACHE_HOME": "/c", "EC2_LAB_CACHE": "/d"}) == Path("/d/images")


def test_the_command_prints_the_directory_and_nothing_else(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "ensure", lambda say: image.Built(tmp_path, tmp_path, tmp_path, tmp_path, "UUID=1"))
    assert image.main() == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_virtual_machines_have_the_same_cloud_init_settings_as_process_trees() -> None:
    text = (image.RECIPE / "files/etc/cloud/cloud.cfg.d/90_ec2.cfg").read_text()
    config = yaml.safe_load(text)
    amazon = next(entry for entry in images.images("us-east-1") if entry.kind == "al2023")
    assert config["system_info"]["default_user"]["name"] == amazon.user
    assert config["ssh_genkeytypes"] == cloudinit.Plan().key_types
    assert config["ssh_pwauth"] is cloudinit.Plan().password_authentication
    assert config["datasource_list"] == ["Ec2"]


def test_the_image_has_no_file_of_the_product() -> None:
    for path in real_files():
        assert "ec2_backup" not in (image.RECIPE / path).read_text()
        assert "ec2-backup" not in (image.RECIPE / path).read_text()
