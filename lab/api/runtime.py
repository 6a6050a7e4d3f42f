# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state that the modules of the API share: the lock, the scheduler, the settings, the state directory."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.common.firewall import Firewall, network
from lab.common.machine import MakeMachine
from lab.common.settings import Settings

from .faults import Faults


class Scheduler:
    """Runs callbacks at given times (seconds of time.monotonic), in a pool of threads."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(16, "lab")
        threading.Thread(target=self._loop, daemon=True, name="scheduler").start()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run ``action`` at the time ``when``; at once if that has passed."""
        with self._changed:
            heapq.heappush(self._queue, (when, next(self._order), action))
            self._changed.notify()

    def soon(self, action: Callable[[], None]) -> None:
        """Run ``action`` at once, in another thread."""
        self.at(time.monotonic(), action)

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._queue or self._queue[0][0] > time.monotonic():
                    self._changed.wait(self._queue[0][0] - time.monotonic() if self._queue else None)
                action = heapq.heappop(self._queue)[2]
            self._pool.submit(_logged, action)


def _logged(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:  # must not end the scheduler's thread; the traceback is in lab/server.log
        traceback.print_exc()


class Runtime:
    """One lab. ``lock`` guards moto's objects and those below them; nothing slow is done while it is held."""

    def __init__(self, state: Path, settings: Settings, make_machine: MakeMachine) -> None:
        self.state = state
        self.make_machine = make_machine
        self.settings = settings
        self.lock = threading.RLock()
        self.scheduler = Scheduler()
        self.faults = Faults(settings.faults_file(state))
        self.firewall = Firewall(network(settings.virtual))
        self._addresses = itertools.count()

    def new_address(self) -> str:
        """Return the next free address for an instance."""
        return self.firewall.network.address(next(self._addresses))

    def volume_file(self, volume_id: str) -> Path:
        return self.state / "volumes" / f"{volume_id}.img"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.state / "snapshots" / f"{snapshot_id}.img"


_runtime: list[Runtime] = []


def set_current(value: Runtime) -> None:
    _runtime[:] = [value]


def current() -> Runtime:
    """Return the lab of this process. It is global because moto makes the objects itself and cannot pass it to them."""
    return _runtime[0]
