#!/usr/bin/python
# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: milestone
short_description: Report what a play has done
description:
  - Reports a step of a run to whoever runs the play. The C(ec2-backup) command listens to these reports alone; a plain
    C(ansible-playbook) prints them as lines.
  - Runs on the controller. Neither the task's host nor the one it is delegated to is connected to, and nothing is
    changed.
  - A task may give several options. At least one has to be given.
  - The options are described for programs that run the playbooks in C(docs/milestones.md).
options:
  phase:
    description:
      - What the run does from now on.
    type: str
    choices:
      - starting
      - checking
      - measuring
      - finding the volume
      - launching
      - attaching the volume
      - waiting for SSH
      - reading the manifest
      - streaming
      - restoring
      - listing the files
      - verifying
      - committing
      - cleaning up
      - looking for volumes
  total:
    description:
      - The length of the archive in bytes, where it is known.
    type: int
  moved:
    description:
      - The stream that began last has come to its end.
    type: dict
    suboptions:
      taken:
        description:
          - The bytes of the archive that went by. Left out where that is not known.
        type: int
      sent:
        description:
          - The bytes that went over SSH.
        type: int
        required: true
  warning:
    description:
      - What people have to be told.
    type: list
    elements: str
  notice:
    description:
      - What people may want to know. The C(ec2-backup) command does not show it.
    type: list
    elements: str
  settled:
    description:
      - V(false) before the first call that makes something in the account, V(true) when nothing is left of what the run
        made for itself.
    type: bool
  run_id:
    description:
      - The run's ID. Required with O(settled=false), and given with O(settled) only.
    type: str
  region:
    description:
      - The region in which the run makes things; an empty string where the AWS tools decide. Given with O(settled)
        only.
    type: str
  profile:
    description:
      - The AWS profile that the run uses; an empty string where none was named. Given with O(settled) only.
    type: str
  resource:
    description:
      - Something that the run has made.
    type: dict
    suboptions:
      kind:
        description:
          - What it is.
        type: str
        choices:
          - instance
          - volume
          - security-group
        required: true
      id:
        description:
          - Its ID.
        type: str
        required: true
  volume:
    description:
      - The volume that is written to.
    type: dict
    suboptions:
      volume_id:
        description:
          - Its ID.
        type: str
        required: true
      given:
        description:
          - Whether it was there before the run.
        type: bool
        required: true
  committing:
    description:
      - All data is on the volume. What is left is to commit the volume and to end the instance.
      - The value is the backup's result, as O(result) has it for the host when the play ends.
    type: dict
  complete:
    description:
      - The ID of the volume that has been tagged as complete.
    type: str
  committed:
    description:
      - The ID of the volume that has been detached from its instance. From now on the backup exists.
    type: str
  recovered:
    description:
      - Whether the failures before this one, in this play, were expected and have been handled. They are not the cause
        of a later failure then.
    type: bool
  result:
    description:
      - What the play returns, by name. It is handed to callback plugins as M(ansible.builtin.set_stats) does with
        O(ansible.builtin.set_stats#module:per_host=false) and O(ansible.builtin.set_stats#module:aggregate=true).
    type: dict
attributes:
  check_mode:
    description: Works in check mode as it does outside of it.
    support: full
seealso:
  - module: ansible.builtin.set_stats
author:
  - The ec2-backup authors
"""

EXAMPLES = r"""
- name: Report the launch
  ec2_backup.ebs.milestone:
    phase: launching
    settled: false
    run_id: 20261122-184500-3f9c
    region: eu-central-1
    profile: ""

- name: Report the instance
  ec2_backup.ebs.milestone:
    resource:
      kind: instance
      id: i-0123456789abcdef0
"""

RETURN = r"""
milestone:
  description: The options that were given.
  type: dict
  returned: success
  sample:
    phase: launching
"""
