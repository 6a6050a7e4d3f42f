"""A local filter for the streams that are to be broken: ``gate.py DIRECTORY BYTES RATE HOLD``.

Passes its input on, RATE bytes a second at most (0: as fast as it comes). After BYTES it makes the file ``reached`` in
DIRECTORY, which shows that the stream has come so far; with HOLD 1 it then waits for the file ``go``.
"""

import os
import sys
import time

CHUNK = 64 * 1024
PATIENCE = 60  # seconds: a filter that is not released must end before its case


def main(directory: str, position: int, rate: int, hold: bool) -> None:
    """Run the filter."""
    passed, start, reached = 0, time.monotonic(), False
    while True:
        if passed >= position and not reached:
            reached = True
            open(os.path.join(directory, "reached"), "x").close()
            until = time.monotonic() + PATIENCE
            while hold and not os.path.exists(os.path.join(directory, "go")) and time.monotonic() < until:
                time.sleep(0.02)  # another process makes the file
        data = os.read(0, CHUNK if reached else min(CHUNK, position - passed))
        if not data:
            return
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
        passed += len(data)
        if rate:
            # the rate that was asked for
            time.sleep(max(0.0, start + passed / rate - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1")
