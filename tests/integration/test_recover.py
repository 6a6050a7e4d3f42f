"""The page docs/recover-by-hand.md: each of its commands is run, in its order, as by a person with a console."""

import contextlib
import functools
import gzip
import hashlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.integration import hard, images
from tests.integration.conftest import CHECKOUT, Lab
from tests.integration.test_trouble import wait_for

PAGE = CHECKOUT / "docs" / "recover-by-hand.md"
PROMPT = re.compile(r"(here|instance)\$ (.*)")


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands in the page's console blocks, each with where it is typed. Other lines are answers."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        unfinished = False
        for line in block.splitlines():
            prompt = PROMPT.fullmatch(line)
            if prompt:
                found.append((prompt.group(1), prompt.group(2)))
            elif unfinished:
                place, command = found.pop()
                found.append((place, f"{command}\n{line}"))
            unfinished = found[-1][1].endswith(("|", "\\"))
    return found


def script(page: str) -> str:
    """Return the page as one shell script: what is typed on the instance is what the ssh before it reads."""
    lines = ["set -eux"]
    typed: list[str] = []

    def leave() -> None:
        if typed:
            lines[-1] += " <<'TYPED'\n" + "\n".join(["set -eux", *typed]) + "\nTYPED"
            typed.clear()

    for place, command in commands(page):
        if place == "here":
            leave()
            lines.append(command)
        else:
            typed.append(command)
    leave()
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def mounted(image: Path, directory: Path) -> Iterator[Path]:
    """A volume's filesystem."""
    directory.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def is_there(lab: Lab, login: list[str], device: str) -> bool:
    """Whether an instance can be logged in to, and has a device yet."""
    return lab.run(*login, f"test -b {device}").rc == 0


def launch(lab: Lab, home: Path, *volumes: str) -> tuple[str, dict[str, str]]:
    """Launch an instance as the page says, with these volumes; return its address, and each volume's device."""
    key = home / "recover.pem"
    key.write_text(lab.api("create_key_pair", KeyName="recover", KeyType="ed25519")["KeyMaterial"])
    key.chmod(0o600)
    image = lab.api("describe_images", Filters=[{"Name": "name", "Values": ["al2023*x86_64*"]}])["Images"][0]["ImageId"]
    zone = lab.volumes()[volumes[0]]["AvailabilityZone"]
    wanted = {"ImageId": image, "InstanceType": "t3.nano", "KeyName": "recover", "SecurityGroupIds": [lab.make_group()]}
    wanted["Placement"] = {"AvailabilityZone": zone}
    instance = lab.api("run_instances", MinCount=1, MaxCount=1, **wanted)["Instances"][0]["InstanceId"]
    wait_for(lambda: lab.instances()[0]["State"]["Name"] == "running", "the instance to run")
    for letter, volume in zip("fghi", volumes, strict=False):
        lab.api("attach_volume", InstanceId=instance, VolumeId=volume, Device=f"/dev/sd{letter}")
    address = lab.instances()[0]["PublicIpAddress"]
    options = ["-i", str(key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    login = ["ssh", *options, f"ec2-user@{address}"]
    devices: dict[str, str] = {}
    for volume in volumes:
        link = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
        wait_for(functools.partial(is_there, lab, login, link), f"{volume} to be there")
        devices[volume] = lab.run(*login, f"readlink -f {link}").stdout.strip()
    return address, devices


def test_every_command_of_the_page_on_recovering_by_hand_works(quick, tmp_path):
    lab = quick
    source = hard.make(tmp_path / "source")
    home = tmp_path / "home"
    home.mkdir()
    stream = images.tar(source)
    zipped = gzip.compress(stream, 1)
    stored = gzip.compress(zipped, 1)
    last = images.block(stream)
    block = images.block(zipped, stored, local_filter="gzip -1", remote_filter="gzip -1")
    good = images.Image(stream, last).write(lab)
    filtered = images.Image(stored, block).write(lab)
    damaged = images.Image(stream, images.flip(last, 300)).write(lab)
    empty = lab.make_volume()
    address, devices = launch(lab, home, good, empty, filtered, damaged)

    page = PAGE.read_text()
    examples = {
        "203.0.113.7": address,
        "vol0123456789abcdef0": good.replace("-", ""),
        "vol0f117e4ed0f117e4e": filtered.replace("-", ""),
        "vol0dad0000000000000": damaged.replace("-", ""),
        "vol0a9e7000000000000": empty.replace("-", ""),
        "/dev/nvme1n1": devices[good],
        "/dev/nvme3n1": devices[filtered],
        "3145728": str(len(stream)),
        "2097152": str(len(stored)),
    }
    text = script(page)
    for example, value in examples.items():
        assert example in text
        text = text.replace(example, value)
    # A person answers "yes" to a host key that is new to ssh.
    yes = f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={shlex.quote(str(home / 'known_hosts'))}"
    (home / "script").write_text(f'ssh() {{ command ssh {yes} "$@"; }}\n{text}')
    done = lab.run("bash", home / "script", HOME=str(home), LC_ALL="C")
    assert done.rc == 0, done

    # What a person compares: the manifest's sum, and those of the data there (with what is recorded) and here.
    assert done.stdout.count(hashlib.sha256(last.split(b"\n", 1)[1].rstrip(b"\0")).hexdigest()) == 3
    assert done.stdout.count(hashlib.sha256(stream).hexdigest()) == 4
    assert done.stdout.count(hashlib.sha256(zipped).hexdigest()) == 1
    assert hard.differences(source, home / "restored") == []
    assert hard.differences(source, home / "unfiltered") == []
    with mounted(lab.image(empty), tmp_path / "mnt") as disk:
        assert hard.differences(source, disk / "restored") == []
        assert hard.differences(source, disk / "salvaged") == []


def test_the_page_has_no_command_that_is_not_in_a_console_block():
    blocks = re.findall(r"^```(.*)$", PAGE.read_text(), re.MULTILINE)
    assert set(blocks) == {"console", ""}
