# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Catch the signals that ask for the end, so that the end can be an orderly one."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Caught:
    """Which signal came first, if any did."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None


@contextlib.contextmanager
def caught(on_signal: Callable[[signal.Signals, bool], None]) -> Iterator[Caught]:
    """Within the block, signals are counted and told to ``on_signal(signal, is_first)``; afterwards all is as before.

    A signal that was ignored when we came (``nohup``, a background job of a script) stays ignored.
    """
    seen = Caught()

    def handle(number: int, _frame: FrameType | None) -> None:
        is_first = seen.first is None
        if is_first:
            seen.first = signal.Signals(number)
        on_signal(signal.Signals(number), is_first)

    before = {number: signal.getsignal(number) for number in WATCHED}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in ours:
            signal.signal(number, handle)
        yield seen
    finally:
        for number in ours:
            signal.signal(number, before[number])
