#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stream_receive
short_description: Stream an archive from a volume over SSH, and unpack, list or compare it
version_added: "0.1.0"
description:
  - Pipes the archive from the raw device of a volume that is attached to an instance over SSH into C(tar). There is no
    temporary archive on either side, and the volume is only read.
  - Reads the recorded length, and compares the SHA-256 of what was received with what is recorded. If they differ the
    module fails, and the files that were unpacked must not be trusted.
  - Nothing outside O(path) is written, whatever the archive contains.
  - Runs on the host that is restored to, which needs GNU tar. The instance needs only a POSIX shell and C(dd).
options:
  action:
    description:
      - V(extract) unpacks into O(path), V(list) writes the members' names into O(listing), V(compare) compares O(path)
        with the archive, V(count) only reads the archive to its end.
    type: str
    choices: [extract, list, compare, count]
    default: extract
  path:
    description:
      - The directory. For V(extract) it has to be empty or absent, unless O(force) is set.
    type: str
  members:
    description:
      - The files to unpack or list. A directory stands for all that is in it. If this is empty, all files.
    type: list
    elements: str
    default: []
  force:
    description:
      - Whether the directory may contain files already. Those with a name that is in the archive are replaced.
    type: bool
    default: false
  listing:
    description:
      - The file for V(list), which must not exist.
    type: str
  length:
    description:
      - The bytes on the volume. V(0) is for volumes of older tools, where only C(tar) knows where the archive ends.
    type: int
    default: 0
  bytes:
    description:
      - The bytes that were sent when the backup was made. Not used with a O(length) of V(0).
    type: int
  sha256:
    description:
      - The SHA-256 sum of those bytes.
    type: str
  look_for_new:
    description:
      - Whether a comparison lists files that are in the directory and not in the archive. It should not if the backup
        left files out.
    type: bool
    default: true
  local_inverse:
    description:
      - The command that undoes the filter that the archive went through before it was sent.
    type: str
  remote_inverse:
    description:
      - The command that undoes, on the instance, the filter that the stream went through there.
    type: str
extends_documentation_fragment:
  - ec2_backup.ebs.device
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: none
    details: The task is skipped.
seealso:
  - module: ec2_backup.ebs.manifest_info
  - module: ec2_backup.ebs.target_info
author:
  - The ec2-backup developers (@ec2-backup)
"""

EXAMPLES = r"""
- name: Restore into /srv/restored
  ec2_backup.ebs.stream_receive:
    ssh: "{{ ['ssh'] + session.ssh_options + ['ec2-backup@203.0.113.7'] }}"
    volume_id: vol-0123456789abcdef0
    volume_size: "{{ 8 * 1024 ** 3 }}"
    path: /srv/restored
    length: "{{ manifest.stored.bytes }}"
    bytes: "{{ manifest.stream.bytes }}"
    sha256: "{{ manifest.stream.sha256 }}"
"""

RETURN = r"""
bytes:
  description: The bytes that were received.
  type: int
  returned: success
sha256:
  description: Their SHA-256.
  type: str
  returned: success
members:
  description: How many members were unpacked, listed, compared or counted.
  type: int
  returned: success
denied:
  description: In one line the attributes that could not be restored for this user; an empty string if there are none.
  type: str
  returned: success
denied_count:
  description: How many attributes could not be restored.
  type: int
  returned: success
differences:
  description: How O(path) differs from the archive; the first 1000.
  type: list
  elements: str
  returned: with V(compare)
differences_count:
  description: How many differences there are.
  type: int
  returned: with V(compare)
seconds:
  description: The time the stream took.
  type: float
  returned: success
rate:
  description: Bytes a second.
  type: int
  returned: success
stderr_of:
  description: The last lines each process wrote to its stderr, by the process's name.
  type: dict
  returned: failure
found_bad:
  description: Whether the cause is the data on the volume, and not the way to it.
  type: bool
  returned: when the volume was read, and the module failed
"""

import contextlib
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.find import ARGUMENTS, remote_command
from ansible_collections.ec2_backup.ebs.plugins.module_utils._device.read import send_script
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.archive import check_directory
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.compare import Comparison
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.confine import confine
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.errors import SourceError, StreamError, TargetError
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.process import Collector, Interrupted, interruptible
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.pump import Pump
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.receive import Tar, receive
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.session import Session
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.ssh import expand_arguments
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.tar import readable
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.target import (
    check_target,
    make_target,
    plan_extraction,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack import (
    ARCHIVE_END,
    compare_arguments,
    extract_arguments,
    list_arguments,
)
from ansible_collections.ec2_backup.ebs.plugins.module_utils._host.unpack_log import ExtractLog, extract_failure


class Reader:
    """What tar is to do with the archive, and what it reported about that."""

    def __init__(self, asked, pump):
        self.asked, self.pump = asked, pump
        self.plain = asked["length"] == 0
        self.members = 0
        self.comparison = Comparison()
        self.directory = ""
        self.made = False
        self.confine, self.output, self.unwritten = None, None, None
        self.log = ExtractLog(asked["members"])
        getattr(self, "prepare_" + asked["action"])()
        if self.plain or self.asked["action"] == "compare":
            self.argv[1:1] = ["--block-number"]

    def prepare_extract(self):
        path = check_target(self.asked["path"] or "", self.asked["force"])
        confined = plan_extraction(path, self.asked["force"])
        self.made = make_target(path)
        self.directory, self.confine = path, confine(path) if confined else None
        self.log = ExtractLog(self.asked["members"], confined)
        self.argv = extract_arguments(self.asked["members"])
        self.argv[1:1] = ["--verbose"]

    def prepare_list(self):
        self.argv = list_arguments(self.asked["members"])
        descriptor = os.open(self.asked["listing"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.output = os.fdopen(descriptor, "w")

    def prepare_count(self):
        self.argv = list_arguments()

    def prepare_compare(self):
        self.directory = check_directory(self.asked["path"] or "")
        self.argv = compare_arguments()
        self.argv[1:1] = ["--verbose"]

    def take_output(self, line):
        """Take a line of tar's stdout."""
        if self.plain and ARCHIVE_END.fullmatch(line):
            self.pump.enough.set()
            return
        if self.asked["action"] == "compare":
            self.comparison.feed(line)
            return
        if self.plain:
            line = line.partition(": ")[2]
        self.members += 1
        if self.output is not None and self.unwritten is None:
            try:
                self.output.write(readable(line) + "\n")
            except OSError as error:  # reported at the end: tar would block if its output were not read
                self.unwritten = error

    def finish(self):
        """Close the listing.

        :raises StreamError: not all of it could be written.
        """
        if self.output is None:
            return
        try:
            self.output.close()
        except OSError as error:
            self.unwritten = self.unwritten or error
        if self.unwritten is not None:
            message = "{} could not be written: {}".format(self.asked["listing"], self.unwritten.strerror)
            raise StreamError(message, {})

    def take_message(self, line):
        """Take a line of tar's stderr."""
        if self.asked["action"] != "compare" or not self.comparison.feed_error(line):
            self.log.feed(line)

    def failure(self, status):
        """Return in words why tar did not do all its work, or None."""
        if self.asked["action"] == "compare" and status in (1, 2) and not (self.log.damage or self.log.other):
            return None
        return extract_failure(status, self.log)

    def where(self):
        """Return in words where files are that must not be trusted."""
        return f"; what was restored to {self.directory} is suspect" if self.asked["action"] == "extract" else ""

    def result(self):
        if self.asked["action"] != "compare":
            return {
                "members": self.members,
                "denied": self.log.denied_text(os.geteuid()) or "",
                "denied_count": self.log.denied_count,
            }
        if self.asked["look_for_new"]:
            self.comparison.look_for_new(self.directory)
        return {
            "members": self.comparison.members,
            "denied": "",
            "denied_count": 0,
            "differences": self.comparison.differences,
            "differences_count": self.comparison.count,
        }


def trouble(asked, reader, received):
    """Return the first cause of a failure, and whether that is the data on the volume; None if all went well."""
    if received.remote_trouble is not None:
        return received.remote_trouble + reader.where(), received.found_bad
    if not reader.plain and (received.bytes, received.sha256) != (asked["bytes"], asked["sha256"]):
        if received.bytes != asked["bytes"]:
            what = "{} bytes came, {} were recorded".format(received.bytes, asked["bytes"])
        else:
            what = "its SHA-256 is {}, but should be {}".format(received.sha256, asked["sha256"])
        reason = "the data on it is not what was backed up: " + what
        return "volume {}: {}{}".format(asked["volume_id"], reason, reader.where()), True
    failed = reader.failure(received.tar_status)
    # If a filter failed, that is the cause of what tar reports.
    reason = received.filter_trouble or failed
    if reason is None and reader.plain and not reader.pump.enough.is_set():
        reason = "the archive has no end: the volume ends before it"
    if reason is None:
        return None
    found_bad = not received.filter_trouble and bool(reader.log.damage)
    return "volume {}: {}{}".format(asked["volume_id"], reason, reader.where()), found_bad


def run(asked):
    """Read the archive from the volume; return the module's result.

    :raises StreamError: the archive did not come, or is not what was backed up.
    :raises TargetError: nothing can be restored to the directory.
    :raises SourceError: the directory cannot be compared.
    :raises OSError: a file of this host cannot be used.
    :raises Interrupted: a signal ended the work.
    """
    script = send_script(
        asked["volume_id"],
        asked["volume_size"],
        asked["length"] or asked["volume_size"],
        asked["remote_inverse"],
        asked["device_exact"],
        asked["timeout"],
    )
    pump = Pump()
    reader = Reader(asked, pump)
    ssh = expand_arguments(asked["ssh"])
    session = None
    try:
        session = Session(ssh, remote_command(script, asked["device"]), asked["volume_id"], asked["timeout"])
        tar = Tar(
            reader.argv,
            reader.directory or None,
            reader.take_message,
            subprocess.PIPE,
            asked["local_inverse"],
            reader.confine,
        )
        assert tar.tar.process.stdout is not None
        output = Collector(tar.tar.process.stdout, reader.take_output)
        received = receive(session, tar, asked["length"] or None, pump)
        output.join(5)
        reader.finish()
    except (StreamError, Interrupted, OSError):
        if reader.made:
            # Only if nothing was unpacked; os.rmdir refuses otherwise.
            with contextlib.suppress(OSError):
                os.rmdir(reader.directory)
        raise
    finally:
        if session is not None:
            session.child.kill()
    found = trouble(asked, reader, received)
    if found is not None:
        reason, found_bad = found
        raise StreamError(reason, {"ssh": session.stderr(), "tar": tar.tar.stderr.text()}, found_bad)
    seconds = received.seconds
    return dict(
        reader.result(),
        changed=asked["action"] == "extract",
        path=reader.directory,
        bytes=received.bytes,
        sha256=received.sha256,
        notices=reader.log.notices,
        seconds=round(seconds, 3),
        rate=int(received.bytes / seconds) if seconds else 0,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            action={"type": "str", "choices": ["extract", "list", "compare", "count"], "default": "extract"},
            path={"type": "str"},
            members={"type": "list", "elements": "str", "default": []},
            force={"type": "bool", "default": False},
            listing={"type": "str"},
            look_for_new={"type": "bool", "default": True},
            length={"type": "int", "default": 0},
            bytes={"type": "int"},
            sha256={"type": "str"},
            local_inverse={"type": "str"},
            remote_inverse={"type": "str"},
        ),
        required_if=[
            ("action", "extract", ["path"]),
            ("action", "compare", ["path"]),
            ("action", "list", ["listing"]),
        ],
        required_together=[("bytes", "sha256")],
    )
    asked = module.params
    if asked["length"] and asked["sha256"] is None:
        module.fail_json(msg="bytes and sha256 are needed with a length")
    unfinished = {"extract": "the restore is incomplete"}
    interruptible(unfinished.get(asked["action"], "the archive was not read to its end"))
    try:
        result = run(asked)
    except StreamError as error:
        module.fail_json(msg=str(error), stderr_of=error.stderr, found_bad=error.found_bad)
    except (SourceError, TargetError, Interrupted) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"the stream could not be set up: {error}")
    for notice in result.pop("notices"):
        module.warn("tar: " + notice)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
