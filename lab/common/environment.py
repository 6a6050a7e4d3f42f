# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment variables of the lab's processes, and the programs that are on their PATH."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

_KEPT = ("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE")
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
"""CMD's access key ID. EC2_LAB_POLICY applies to it; calls with any other ID are the root user's."""
CHECKIP = "checkip.amazonaws.com"
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def system_path(path: str) -> str:
    """Return a PATH with the sbin directories added, which an ordinary user's PATH often lacks."""
    present = [entry for entry in path.split(os.pathsep) if entry]
    return os.pathsep.join([*present, *(entry for entry in _SYSTEM if entry not in present)])


def lacking(programs: Mapping[str, str], path: str) -> str:
    """Return a message with the programs that are not on a PATH; empty if none is missing.

    The message has the command that installs them.

    :param programs: each program, and the Debian package that has it.
    """
    absent = [name for name in programs if not shutil.which(name, path=path)]
    packages = " ".join(sorted({programs[name] for name in absent}))
    return f"{', '.join(absent)} not found: apt-get install {packages}" if absent else ""


def hosts(machines: Path, checkip: str) -> str:
    """Return the text of the lab's /etc/hosts: the file ``machines``, and an entry for checkip.amazonaws.com."""
    text = machines.read_text(errors="replace") if machines.exists() else "127.0.0.1 localhost\n"
    return f"{text.rstrip()}\n{checkip} {CHECKIP}\n"


def for_command(environ: Mapping[str, str], endpoint: str, state: Path, region: str) -> dict[str, str]:
    """Return the environment of CMD: every AWS client uses the lab, and none can reach a real account."""
    result = {
        name: value
        for name, value in environ.items()
        # All settings that could lead to a real account go. How often a client retries stays the caller's choice.
        if name in _KEPT or not (name.startswith(("AWS_", "BOTO_")) or name.lower().endswith("_proxy"))
    }
    bundle = str(state / "lab" / "ca-bundle.pem")
    tools = str(Path(sys.executable).parent)  # not resolved: the directory of the virtual environment
    result["PATH"] = os.pathsep.join([tools, system_path(environ.get("PATH", ""))])
    result.update(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        # Long and unlike any word: Ansible masks a secret wherever it appears in its output.
        AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        AWS_REGION=region,
        AWS_DEFAULT_REGION=region,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        EC2_LAB_STATE=str(state),
        SSL_CERT_FILE=bundle,
        REQUESTS_CA_BUNDLE=bundle,
        CURL_CA_BUNDLE=bundle,
    )
    return result


def for_server(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the API server: moto's checks are on, and the user's AWS settings are removed."""
    result = {
        name: value for name, value in environ.items() if not name.startswith(("AWS_", "BOTO_", "MOTO_", "PYTHON"))
    }
    result.update(
        PATH=system_path(environ.get("PATH", "")),
        PYTHONDONTWRITEBYTECODE="1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        MOTO_ENABLE_AMI_VALIDATION="true",
        MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true",
        MOTO_ENABLE_KEYPAIR_VALIDATION="true",
    )
    return result
