"""Runs a command on a terminal, and prints what was seen there: ``terminal.py JSON`` → a JSON object on stdout.

Asked: ``argv``, ``term``, ``columns``, ``rows``, ``acts``: a list of [text, act]. As soon as the screen shows the text,
``interrupt`` types ^C, ``usr1`` sends the signal, ``[columns, rows]`` changes the
size. They are done one after the other.
Told: ``status`` (128+N for signal N), ``screens`` (each as a list of its lines, in the order in which they were seen),
``raw`` (all that was written).
"""

import contextlib
import json
import os
import signal
import sys

import pexpect
import pyte


def lines(screen: pyte.Screen) -> list[str]:
    """The screen's lines, without those that are empty at its end."""
    return "\n".join(line.rstrip() for line in screen.display).rstrip().split("\n")


def main() -> None:
    asked = json.loads(sys.argv[1])
    child = pexpect.spawn(
        asked["argv"][0],
        asked["argv"][1:],
        env={**os.environ, "TERM": asked["term"]},
        dimensions=(asked["rows"], asked["columns"]),
        timeout=120,
    )
    screen = pyte.Screen(asked["columns"], asked["rows"])
    stream = pyte.ByteStream(screen)
    screens: list[list[str]] = []
    acts, raw = list(asked["acts"]), b""
    with contextlib.suppress(pexpect.EOF):
        while True:
            data = child.read_nonblocking(65536)
            raw += data
            stream.feed(data)
            if lines(screen) not in screens[-1:]:
                screens.append(lines(screen))
            if acts and any(acts[0][0] in line for line in lines(screen)):
                act = acts.pop(0)[1]
                if act == "interrupt":
                    child.sendintr()
                elif act == "usr1":
                    child.kill(signal.SIGUSR1)
                else:
                    child.setwinsize(act[1], act[0])
                    screen.resize(act[1], act[0])
    child.close()
    status = child.exitstatus if child.signalstatus is None else 128 + child.signalstatus
    print(json.dumps({"status": status, "screens": screens, "raw": raw.decode(errors="replace"), "left": acts}))


if __name__ == "__main__":
    main()
