#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: session_open
short_description: Make the keys and the known_hosts of one backup run
version_added: "0.1.0"
description:
  - Makes a private directory with an ephemeral client key and a known_hosts file, and an ephemeral host key for the
    instance that is to be launched. The known_hosts file pins that host key, so that no host is trusted on first use.
  - Runs on the host whose directory is saved, which needs OpenSSH's C(ssh) and C(ssh-keygen).
  - The caller has to remove the RV(directory) at the end of the run. On failure the module leaves nothing behind.
  - The result holds a private key. Use C(no_log) on the task.
options:
  run_id:
    description:
      - The run's id, which becomes the keys' comment and part of the host key alias.
    type: str
    required: true
  directory_base:
    description:
      - The directory in which the session's directory is made. Defaults to the host's directory for temporary files.
    type: str
  host_key_checking:
    description:
      - V(pinned) is for images whose cloud-init installs the host key of RV(host_private_key).
      - V(accept-new) is for images without cloud-init. The first host key seen is accepted, and required for the rest
        of the run. The user's own keys and agent are used to log in, unless O(offer_client_key) is set.
    type: str
    choices: [pinned, accept-new]
    default: pinned
  offer_client_key:
    description:
      - Whether RV(ssh_options) offer the ephemeral client key. By default they do with O(host_key_checking=pinned).
    type: bool
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: The keys are made, to check that this is possible, and removed at once. RV(directory) does not exist.
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Make the keys of this run
  ec2_backup.ebs.session_open:
    run_id: 20260102t030405-1a2b3c
  register: session
  no_log: true
"""

RETURN = r"""
directory:
  description: The session's directory, mode 0700.
  type: str
  returned: success
  sample: /tmp/ec2-backup-k3v5x1qd
client_key:
  description: Path of the private client key.
  type: str
  returned: success
  sample: /tmp/ec2-backup-k3v5x1qd/client
client_public_key:
  description: The public client key, for the instance's authorized_keys.
  type: str
  returned: success
  sample: ssh-ed25519 AAAAC3Nza... 20260102t030405-1a2b3c
host_private_key:
  description: The private host key, for the instance's user-data. The only secret of this result.
  type: str
  returned: success
  sample: "-----BEGIN OPENSSH PRIVATE KEY-----..."
host_public_key:
  description: The public host key.
  type: str
  returned: success
  sample: ssh-ed25519 AAAAC3Nza... 20260102t030405-1a2b3c
known_hosts:
  description: Path of the session's known_hosts. Empty with O(host_key_checking=accept-new).
  type: str
  returned: success
  sample: /tmp/ec2-backup-k3v5x1qd/known_hosts
host_key_alias:
  description: The name by which known_hosts knows the instance.
  type: str
  returned: success
  sample: ec2-backup-20260102t030405-1a2b3c
ssh_options:
  description:
    - The options every ssh of this run takes.
    - The user's own options have to go in front of them, since ssh uses the first value of each.
  type: list
  elements: str
  returned: success
  sample: ["-o", "BatchMode=yes"]
"""

import os
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import (
    host_key_alias,
    known_hosts_line,
    ssh_options,
)

ARGUMENTS = {
    "run_id": {"type": "str", "required": True},
    "directory_base": {"type": "str"},
    "host_key_checking": {"type": "str", "choices": ["pinned", "accept-new"], "default": "pinned"},
    "offer_client_key": {"type": "bool"},
}


def make_key(module: AnsibleModule, path: str, comment: str) -> str:
    """Make an ed25519 key pair without a passphrase at ``path``; return the public key.

    :raises OSError: ssh-keygen failed.
    """
    keygen = module.get_bin_path("ssh-keygen")
    argv = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path]
    returncode, out, err = module.run_command(argv, expand_user_and_vars=False)
    if returncode != 0:
        raise OSError(f"ssh-keygen ended with status {returncode}: {(err or out).strip()}")
    with open(path + ".pub", encoding="ascii") as file:
        return file.read().strip()


def open_session(module: AnsibleModule, directory: str) -> dict[str, Any]:
    """Make the files of the session in ``directory``; return the module's result.

    :raises OSError: a file cannot be written, or ssh-keygen failed.
    :raises ValueError: a key file is not what ssh-keygen writes.
    """
    run_id = module.params["run_id"]
    pinned = module.params["host_key_checking"] == "pinned"
    offered = module.params["offer_client_key"]
    client, host = os.path.join(directory, "client"), os.path.join(directory, "host")
    known_hosts = os.path.join(directory, "known_hosts")
    client_public = make_key(module, client, run_id)
    host_public = make_key(module, host, run_id)
    with open(host, encoding="ascii") as file:
        host_private = file.read()
    os.unlink(host)  # only the instance needs it
    os.unlink(host + ".pub")
    alias = host_key_alias(run_id)
    with open(known_hosts, "w", encoding="ascii") as file:
        file.write(known_hosts_line(alias, host_public) if pinned else "")
    returncode, ciphers, _err = module.run_command([module.get_bin_path("ssh"), "-Q", "cipher"])
    return {
        "directory": directory,
        "client_key": client,
        "client_public_key": client_public,
        "host_private_key": host_private,
        "host_public_key": host_public,
        "known_hosts": known_hosts,
        "host_key_alias": alias,
        "ssh_options": ssh_options(
            known_hosts,
            alias,
            client if (pinned if offered is None else offered) else None,
            pinned,
            ciphers.split() if returncode == 0 else None,
        ),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    for tool in ("ssh", "ssh-keygen"):
        if module.get_bin_path(tool) is None:
            module.fail_json(
                msg=f"there is no {tool} on this host: install the package openssh-client (Debian, Ubuntu) or "
                "openssh-clients (Fedora, RHEL, Amazon Linux)"
            )
    base = module.params["directory_base"] or tempfile.gettempdir()
    directory = None
    try:
        directory = tempfile.mkdtemp(prefix="ec2-backup-", dir=base)
        result = open_session(module, directory)
        if module.check_mode:
            shutil.rmtree(directory)
    except BaseException as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        if not isinstance(error, (OSError, ValueError)):
            raise
        reason = getattr(error, "strerror", None) or error
        module.fail_json(msg=f"the session's keys could not be made in {base}: {reason}")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
