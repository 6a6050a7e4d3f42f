"""What the lab's parts share while it runs: the lock, the clock's callbacks, the state directory."""

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
    """Runs callbacks at their time (monotonic seconds), each in a thread of a pool."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(16, "lab")
        threading.Thread(target=self._loop, daemon=True, name="scheduler").start()

    def at(self, when: float, action: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._queue, (when, next(self._order), action))
            self._changed.notify()

    def soon(self, action: Callable[[], None]) -> None:
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
    except Exception:  # a failed callback must not take the others along; the log is where it is looked for
        traceback.print_exc()


class Runtime:
    """One lab. `lock` guards moto and all that hangs on it; nothing slow is done under it."""

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
        return self.firewall.network.address(next(self._addresses))

    def volume_file(self, volume_id: str) -> Path:
        return self.state / "volumes" / f"{volume_id}.img"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.state / "snapshots" / f"{snapshot_id}.img"


_runtime: list[Runtime] = []


def set_current(value: Runtime) -> None:
    _runtime[:] = [value]


def current() -> Runtime:
    """The lab that moto's objects of this process belong to: moto makes them itself and passes nothing along."""
    return _runtime[0]
