# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Catching the signals that ask a process to end, so that it can end in order."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Caught:
    """The first signal that came, None if none did."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None


@contextlib.contextmanager
def caught(on_signal: Callable[[signal.Signals, bool], None]) -> Iterator[Caught]:
    """Call ``on_signal(signal, is_first)`` at signals while in this context.

    The former handlers are restored at its end. A signal that was ignored before (``nohup``, a background job of a
    script)
    stays ignored.
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
