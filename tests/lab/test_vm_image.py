"""The image's cache and recipe, without building it: `make e2e` does that."""

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

# Stands for recipe/build: the same arguments and results.
BUILD = '#!/bin/sh\necho "$1" >>"{count}"\ncd "$2" && touch kernel initrd disk && echo UUID=1234 >root\n'


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that is quick, in place of the real one; what it built is counted in tmp_path/count, a line each."""
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
    pytest.fail(f"nothing should have been said: {line}")


def real_files() -> list[Path]:
    return sorted(path.relative_to(image.RECIPE) for path in image.RECIPE.rglob("*") if path.is_file())


@pytest.mark.parametrize("changed", real_files(), ids=str)
def test_any_change_of_the_recipe_makes_another_image(changed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "recipe"
    shutil.copytree(image.RECIPE, copy)
    before = image.recipe_hash(image.RECIPE, image.RELEASE)
    assert image.recipe_hash(copy, image.RELEASE) == before
    with (copy / changed).open("a") as file:
        file.write("\n")
    after = image.recipe_hash(copy, image.RELEASE)
    (copy / changed).rename(copy / "renamed")
    assert len({before, after, image.recipe_hash(copy, image.RELEASE)}) == 3


def test_a_file_that_may_be_run_or_not_makes_another_image(recipe: Path) -> None:
    before = image.recipe_hash(recipe, "bookworm")
    (recipe / "build").chmod(0o644)
    assert image.recipe_hash(recipe, "bookworm") != before


def test_another_debian_release_makes_another_image(recipe: Path) -> None:
    hashes = {image.recipe_hash(recipe, release) for release in ("bookworm", "trixie")}
    assert len(hashes) == 2
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in hashes)


def test_the_image_is_built_once_and_then_found(recipe: Path, tmp_path: Path) -> None:
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


def test_an_image_that_is_there_needs_no_programs_and_no_lock(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = image.ensure(lambda line: None, environ(tmp_path))
    for other in built.directory.parent.iterdir():
        if other != built.directory:
            other.unlink()
    monkeypatch.setattr(image, "PROGRAMS", {"no-such-program": "no-such-package"})
    assert image.ensure(quiet, environ(tmp_path)) == built
    assert list(built.directory.parent.iterdir()) == [built.directory]


def test_a_build_that_fails_leaves_only_its_log_and_tells_the_cause_in_one_line(recipe: Path, tmp_path: Path) -> None:
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


def test_what_a_killed_build_left_is_no_image_and_is_removed(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "cache" / "images"
    partial = store / f"{image.recipe_hash(recipe, image.RELEASE)}.partial"
    partial.mkdir(parents=True)
    (partial / "packages.tar").touch()
    built = image.ensure(lambda line: None, environ(tmp_path))
    assert sorted(path.name for path in built.directory.iterdir()) == ["disk", "initrd", "kernel", "root"]
    assert not partial.exists()


def test_two_labs_that_start_together_build_once(recipe: Path, tmp_path: Path) -> None:
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


def test_what_is_missing_is_told_in_one_line_with_the_packages_that_have_it() -> None:
    text = "cannot build the image of virtual machines: mmdebstrap, sfdisk, mke2fs not found:"
    assert image.missing("", root=True) == f"{text} apt-get install e2fsprogs fdisk mmdebstrap"
    assert "fakeroot" in image.missing("", root=False)


def test_a_missing_package_is_told_before_anything_is_made(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "PROGRAMS", {"no-such-program": "some-package"})
    with pytest.raises(image.ImageError, match=r"no-such-program not found: apt-get install some-package$"):
        image.ensure(quiet, environ(tmp_path))
    assert [path.suffix for path in (tmp_path / "cache" / "images").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_told(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(image.ImageError, match=r"cannot build the image of virtual machines in .*/cache/images: "):
        image.ensure(quiet, environ(tmp_path))


def test_images_are_kept_in_the_users_cache_unless_told_otherwise() -> None:
    assert image.images({"HOME": "/home/me"}) == Path("/home/me/.cache/ec2-lab/images")
    assert image.images({"HOME": "/home/me", "XDG_CACHE_HOME": "/c"}) == Path("/c/ec2-lab/images")
    assert image.images({"HOME": "/home/me", "XDG_CACHE_HOME": "/c", "EC2_LAB_CACHE": "/d"}) == Path("/d/images")


def test_the_command_prints_the_directory_and_nothing_else(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "ensure", lambda say: image.Built(tmp_path, tmp_path, tmp_path, tmp_path, "UUID=1"))
    assert image.main() == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_virtual_machines_are_set_up_like_instances_that_are_processes() -> None:
    text = (image.RECIPE / "files/etc/cloud/cloud.cfg.d/90_ec2.cfg").read_text()
    config = yaml.safe_load(text)
    amazon = next(entry for entry in images.images("us-east-1") if entry.kind == "al2023")
    assert config["system_info"]["default_user"]["name"] == amazon.user
    assert config["ssh_genkeytypes"] == cloudinit.Plan().key_types
    assert config["ssh_pwauth"] is cloudinit.Plan().password_authentication
    assert config["datasource_list"] == ["Ec2"]


def test_nothing_of_the_product_is_in_the_image() -> None:
    for path in real_files():
        assert "ec2_backup" not in (image.RECIPE / path).read_text()
        assert "ec2-backup" not in (image.RECIPE / path).read_text()
