"""The environments of the lab's processes, and what of programs there is in them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

_KEPT = ("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE")
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
"""CMD's: a policy (EC2_LAB_POLICY) is for whoever uses it. With any other one is the account's root user."""
CHECKIP = "checkip.amazonaws.com"
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def system_path(path: str) -> str:
    """PATH with the directories of administrators' programs, which a user's often lacks."""
    present = [entry for entry in path.split(os.pathsep) if entry]
    return os.pathsep.join([*present, *(entry for entry in _SYSTEM if entry not in present)])


def lacking(programs: Mapping[str, str], path: str) -> str:
    """Which of some programs, given with Debian's packages that have them, are not on a PATH, and how to get them.

    Empty if none.
    """
    absent = [name for name in programs if not shutil.which(name, path=path)]
    packages = " ".join(sorted({programs[name] for name in absent}))
    return f"{', '.join(absent)} not found: apt-get install {packages}" if absent else ""


def hosts(machines: Path, checkip: str) -> str:
    """The lab's /etc/hosts: the machine's, and the address of the service that tells callers theirs."""
    text = machines.read_text(errors="replace") if machines.exists() else "127.0.0.1 localhost\n"
    return f"{text.rstrip()}\n{checkip} {CHECKIP}\n"


def for_command(environ: Mapping[str, str], endpoint: str, state: Path, region: str) -> dict[str, str]:
    """What CMD sees: every AWS client points at the lab, and none can reach a real account."""
    result = {
        name: value
        for name, value in environ.items()
        # no way out of the lab; but how often a client retries is the caller's affair
        if name in _KEPT or not (name.startswith(("AWS_", "BOTO_")) or name.lower().endswith("_proxy"))
    }
    bundle = str(state / "lab" / "ca-bundle.pem")
    tools = str(Path(sys.executable).parent)  # not resolved: the directory of the virtual environment
    result["PATH"] = os.pathsep.join([tools, system_path(environ.get("PATH", ""))])
    result.update(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        # Long and unlike any word: Ansible blots a secret out wherever it appears in its output.
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
    """What the API server sees: moto's checks switched on, no AWS settings of the user's."""
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
