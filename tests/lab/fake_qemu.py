"""A stand-in for QEMU. Its guest obeys the power button and unplugging, unless a file `unresponsive` is beside it.

Appends each command that it gets to the file `commands` beside it, one a line. Standard library only.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    descriptor = next(int(found[1]) for word in sys.argv if (found := re.match(r"socket,id=monitor,fd=(\d+)", word)))
    channel = socket.socket(fileno=descriptor)
    lines = channel.makefile("r")

    def say(**message: Any) -> None:
        channel.sendall(json.dumps(message).encode() + b"\n")

    say(QMP={"version": {}})
    on_shutdown, refusals = "poweroff", 1
    for line in lines:
        request = json.loads(line)
        command, arguments = request["execute"], request.get("arguments", {})
        with (HERE / "commands").open("a") as log:
            log.write(" ".join([command, *map(str, arguments.values())]) + "\n")
        answer: dict[str, Any] = {"return": {}}
        if command == "blockdev-del" and refusals:
            refusals -= 1
            answer = {"error": {"class": "GenericError", "desc": "Node is in use"}}
        say(**answer, **({"id": request["id"]} if "id" in request else {}))
        responds = not (HERE / "unresponsive").exists()
        if command == "set-action":
            on_shutdown = arguments["shutdown"]
        elif command == "system_powerdown" and responds:
            say(event="SHUTDOWN", data={"guest": True, "reason": "guest-shutdown"})
            if on_shutdown == "poweroff":
                return
        elif command == "device_del" and responds:
            say(event="DEVICE_DELETED", data={"path": f"/machine/{arguments['id']}"})
            say(event="DEVICE_DELETED", data={"device": arguments["id"], "path": ""})


if __name__ == "__main__":
    main()
