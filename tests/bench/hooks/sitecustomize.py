# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Imported by each Python interpreter of a measured run, as its directory is on PYTHONPATH: counts module processes.

At its end, an interpreter that ran an Ansible module adds a line of JSON to the file that ``EC2_BACKUP_BENCH_RECORDS``
names: ``{"module": NAME, "cpu": SECONDS}``, the CPU time being its own and that of the children it waited for. Such
an interpreter is told by the arguments that Ansible puts into ``ansible.module_utils.basic`` before it runs a module;
Ansible's own processes, which import that file too, have none there.
"""

import atexit
import json
import os
import sys

VARIABLE = "EC2_BACKUP_BENCH_RECORDS"


def _record() -> None:
    basic = sys.modules.get("ansible.module_utils.basic")
    arguments = getattr(basic, "_ANSIBLE_ARGS", None)
    if not arguments:
        return
    name = json.loads(arguments)["ANSIBLE_MODULE_ARGS"].get("_ansible_module_name", "?")
    line = json.dumps({"module": name, "cpu": sum(os.times()[:4])})
    with open(os.environ[VARIABLE], "a") as file:
        file.write(f"{line}\n")


if os.environ.get(VARIABLE):
    atexit.register(_record)
