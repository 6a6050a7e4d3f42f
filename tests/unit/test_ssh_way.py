"""The way that ssh takes to an instance, as the role instance reads it from ``ssh -G``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[2] / "roles" / "instance"
SHOWN = ("host", "port", "direct")


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Return for each of the argument lists below what the role makes of it: ``host``, ``port``, ``direct``."""
    directory = tmp_path_factory.mktemp("ways")
    (directory / "config").write_text("Host 192.0.2.9\n  HostName gate.example\n  Port 2222\n  ProxyJump bastion\n")
    asked = {
        "plain": ["ssh", "-F", "none", "u@192.0.2.1"],
        "port": ["ssh", "-F", "none", "-p", "2200", "u@192.0.2.1"],
        "jump": ["ssh", "-F", "none", "-o", "ProxyJump=bastion", "u@192.0.2.1"],
        "command": ["ssh", "-F", "none", "-o", "ProxyCommand=nc %h %p", "u@192.0.2.1"],
        "no proxy": ["ssh", "-F", "none", "-o", "ProxyCommand=none", "u@192.0.2.1"],
        "configured": ["ssh", "-F", str(directory / "config"), "u@192.0.2.9"],
        "wrong": ["ssh", "-F", "none", "-o", "NoSuchOption=1", "u@192.0.2.1"],
    }
    (question,) = [
        task for task in yaml.safe_load((ROLE / "tasks" / "ready.yml").read_text()) if "ansible.builtin.raw" in task
    ]
    found = {f"__ec2_backup_way_{name}": f"{{{{ __ec2_backup_way_{name} }}}}" for name in SHOWN}
    tasks: list[dict[str, Any]] = []
    for name, argv in asked.items():
        tasks.append({**question, "vars": {"__ec2_backup_ssh": argv}})
        answer = {"content": "{{ found | to_json }}", "dest": str(directory / name), "mode": "0600"}
        tasks.append({"ansible.builtin.copy": answer, "vars": {"found": found}})
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "vars_files": [str(ROLE / "vars/main.yml")],
        "tasks": tasks,
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", directory / "play.yml"],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {name: json.loads((directory / name).read_text()) for name in asked}
    return {name: tuple(way[f"__ec2_backup_way_{key}"] for key in SHOWN) for name, way in told.items()}


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [("plain", "192.0.2.1", "22"), ("port", "192.0.2.1", "2200"), ("no proxy", "192.0.2.1", "22")],
)
def test_the_port_is_waited_for_where_ssh_connects_by_itself(ways, name, host, port):
    assert ways[name] == (host, port, True)


@pytest.mark.parametrize("name", ["jump", "command", "configured", "wrong"])
def test_it_is_not_waited_for_behind_a_proxy_or_where_ssh_refuses_its_options(ways, name):
    assert ways[name][2] is False
