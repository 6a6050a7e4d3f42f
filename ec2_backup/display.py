# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show on stderr how far a command is, as ``ec2_backup.progress`` puts it.

Whoever has something to tell (ansible-runner's loop, a signal handler, ``say``) only puts it into a queue. One thread
takes it out, keeps the state and is the only one to write: so nothing gets into the middle of the live line, and a
terminal that takes nothing for a while does not hold the backup up. What cannot be shown is not shown: no fault of
stderr or of this file ends a command.
"""

import contextlib
import io
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from ansible_collections.ec2_backup.ebs.plugins.module_utils import meter
from ec2_backup import progress
from ec2_backup.playbook import Observer
from ec2_backup.progress import State
from ec2_backup.status import json_line, stamp

CHOICES = ("auto", "always", "never", "json")
TICK = 0.25  # seconds, as often as the counter is written
PLAIN_INTERVAL = 5.0  # seconds between lines while bytes go by
JSON_INTERVAL = 1.0
# A terminal that is made narrower folds what is too long for it, and then it cannot be taken back. So we leave room.
WIDEST = 79
PREFIX = "ec2-backup: "


class Output:
    """A text stream that swallows what it cannot get out, and gives up then."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self.stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """Write as much as the encoding has characters for, at once."""
        if self.stream is not None:
            try:
                self.stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
                self.stream.flush()
            except (OSError, ValueError):  # a full disk, a terminal that is gone; a closed stream
                self.stream = None
        return len(text)

    def flush(self) -> None:
        """Nothing: each write is flushed."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor."""
        if self.stream is None:
            raise OSError("no standard error")
        return self.stream.fileno()


class Silent:
    """Shows messages, and progress only when asked."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def message(self, text: str) -> None:
        """Show somebody else's line."""
        self.output.write(text + "\n")

    def entered(self, state: State, now: float) -> None:
        """A phase has begun."""

    def step(self, name: str) -> None:
        """A step has begun."""

    def tick(self, state: State, now: float) -> None:
        """Time goes by."""

    def asked(self, state: State, now: float) -> None:
        """A signal asked how far it is."""
        self.message(PREFIX + progress.line(state, now))

    def ended(self, state: State, now: float) -> None:
        """The command has ended."""


class Plain(Silent):
    """A time-stamped line for each phase, and one now and then while bytes go by."""

    def __init__(self, output: Output, verbose: bool) -> None:
        super().__init__(output)
        self.verbose = verbose
        self.last = 0.0

    def entered(self, state: State, now: float) -> None:
        self.message(f"{PREFIX}{stamp()} {state.phase}")
        self.last = now

    def step(self, name: str) -> None:
        if self.verbose:
            self.message(f"{PREFIX}{stamp()}   {name}")

    def tick(self, state: State, now: float) -> None:
        if state.phase in progress.MOVING and now - self.last >= PLAIN_INTERVAL:
            self.message(f"{PREFIX}{stamp()} {progress.line(state, now)}")
            self.last = now

    def ended(self, state: State, now: float) -> None:
        self.message(f"{PREFIX}{stamp()} {progress.summary(state, now)}")


class Json(Silent):
    """An object a line: the progress each second, and all messages. docs/progress.md tells the fields."""

    last = 0.0

    def _put(self, fields: Mapping[str, Any]) -> None:
        self.output.write(json_line(fields["type"], **{key: fields[key] for key in fields if key != "type"}) + "\n")

    def message(self, text: str) -> None:
        if text.startswith("{"):  # is an object already
            super().message(text)
        else:
            self._put({"type": "message", "text": text.removeprefix(PREFIX)})

    def entered(self, state: State, now: float) -> None:
        self.asked(state, now)

    def tick(self, state: State, now: float) -> None:
        if now - self.last >= JSON_INTERVAL:
            self.asked(state, now)

    def asked(self, state: State, now: float) -> None:
        self._put(progress.as_object(state, now))
        self.last = now

    def ended(self, state: State, now: float) -> None:
        self._put(progress.summary_object(state, now))


class Quiet(Json):
    """JSON lines, and progress only when asked."""

    def entered(self, state: State, now: float) -> None:
        """Nothing."""

    def tick(self, state: State, now: float) -> None:
        """Nothing."""

    def ended(self, state: State, now: float) -> None:
        """Nothing."""


class Live(Silent):
    """One line at the bottom of a terminal that changes as time goes by; all other lines go above it."""

    def __init__(self, output: Output, verbose: bool) -> None:
        from rich.console import Console  # here, because the import takes longer than --help may
        from rich.live import Live as Region
        from rich.text import Text

        class Terminal(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False  # never hidden, so it need not be shown again when we are killed

        super().__init__(output)
        self.verbose = verbose
        self.text = Text
        self.marks = "━─" if output.encoding.lower().replace("-", "") == "utf8" else "#-"
        # The cast is for rich, which wants no more of a file than what Output has.
        stream: Any = output
        self.console = Terminal(file=stream, force_terminal=True, force_interactive=True, legacy_windows=False)
        self.region = Region(
            console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.drawn = False
        self.cells = 0  # of the line that is shown

    def message(self, text: str) -> None:
        if self.drawn:
            self._unwrap()
            self.console.out(text, highlight=False)
        else:
            super().message(text)

    def step(self, name: str) -> None:
        if self.verbose:
            self.message(f"{PREFIX}{stamp()} {name}")

    def entered(self, state: State, now: float) -> None:
        self.tick(state, now)

    def tick(self, state: State, now: float) -> None:
        if not self._in_foreground():
            return  # the terminal is somebody else's now: a shell's that is typed at
        text = self.text(progress.live(state, now, self._width(), self.marks), no_wrap=True, overflow="crop")
        text.stylize("bold", 0, len(state.phase))
        if not self.drawn:
            self.region.start()
            self.drawn = True
        self._unwrap()
        self.region.update(text, refresh=True)
        self.cells = text.cell_len

    def ended(self, state: State, now: float) -> None:
        self._unwrap()
        self.region.stop()
        self.drawn = False
        if self.verbose or state.before or state.taken:
            self.message(PREFIX + progress.summary(state, now))

    def _unwrap(self) -> None:
        """Erase all but the first row of a line that a terminal which became narrower has wrapped."""
        columns = self._columns()
        if 0 < columns < self.cells:
            rows = -(-self.cells // columns)
            self.output.write("\r\x1b[2K\x1b[1A" * (rows - 1))
            self.cells = columns

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.output.fileno()).columns
        except (OSError, ValueError):
            return 0  # not known

    def _width(self) -> int:
        columns = self._columns()
        return min(columns - 1, WIDEST) if columns else WIDEST

    def _in_foreground(self) -> bool:
        try:
            owner = os.tcgetpgrp(self.output.fileno())
        except (OSError, ValueError):
            return True  # it controls nobody
        return owner in (0, os.getpgrp())


class Lines(io.TextIOBase):
    """In place of ``sys.stderr``: its lines go to the display."""

    def __init__(self, display: "Display") -> None:
        self._display = display
        self._part = ""

    def write(self, text: str) -> int:
        *lines, self._part = (self._part + text).split("\n")
        for whole in lines:
            self._display.tell("message", whole)
        return len(text)

    def finish(self) -> None:
        """Let out a line that has no end."""
        if self._part:
            self.write("\n")

    def isatty(self) -> bool:
        return self._display.output.isatty()

    def fileno(self) -> int:
        return self._display.output.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        return self._display.output.encoding


class Display(Observer):
    """Watches a command's playbooks; a context that has stderr to itself, and SIGUSR1, for as long as it lasts.

    ``finish`` takes the live line away and sums up; what is said after that is shown as it comes.
    """

    def __init__(self, painter: Silent) -> None:
        self.painter = painter
        self.output = painter.output
        self._state = progress.start(time.monotonic())
        self._ended: float | None = None
        self._counters: Path | None = None
        self._queue: queue.SimpleQueue[tuple[str, float, Any]] = queue.SimpleQueue()
        self._lines = Lines(self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._finished = False

    @property
    def phases(self) -> dict[str, float]:
        """The seconds of each phase, in the order in which they came; complete when it has finished."""
        return progress.phases(self._state, time.monotonic() if self._ended is None else self._ended)

    def tell(self, kind: str, what: Any = None) -> None:
        """Hand something over to be taken in and shown; may be called from a signal handler."""
        if self._finished:
            self._take(kind, time.monotonic(), what)
        else:
            self._queue.put((kind, time.monotonic(), what))

    def begin(self, playbook: str, counters: Path) -> None:
        self.tell("begin", (playbook, counters))

    def event(self, event: Mapping[str, Any]) -> None:
        self.tell("event", event)

    def __enter__(self) -> Self:
        self._stderr = sys.stderr
        self._usr1 = signal.signal(signal.SIGUSR1, self._asked)
        sys.stderr = self._lines
        self._thread.start()
        return self

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        if not self._finished:
            self.tell("asked")

    def finish(self) -> None:
        """End the live line and sum up. Nothing if that is done."""
        if self._finished:
            return
        self._queue.put(("end", time.monotonic(), None))
        self._thread.join()
        self._finished = True
        while not self._queue.empty():  # what came too late, or when the thread had broken down
            with contextlib.suppress(Exception):
                self._take(*self._queue.get_nowait())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
            self._lines.finish()
        finally:
            sys.stderr = self._stderr
            signal.signal(signal.SIGUSR1, self._usr1)

    # ---- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._show()
        except Exception:  # a fault of the display is not one of the backup
            self.painter = Silent(self.output)
            self.output.write("\r\x1b[K" if self.output.isatty() else "")

    def _show(self) -> None:
        self.painter.entered(self._state, time.monotonic())
        due = time.monotonic() + TICK
        while self._ended is None:
            with contextlib.suppress(queue.Empty):
                self._take(*self._queue.get(timeout=max(0.0, due - time.monotonic())))
            now = time.monotonic()
            if now >= due and self._ended is None:
                self._count(now)
                self.painter.tick(self._state, now)
                due = now + TICK

    def _count(self, now: float) -> None:
        counted = meter.read(self._counters) if self._counters and self._state.phase in progress.MOVING else None
        if counted:
            self._state = progress.after_count(self._state, *counted, now)

    def _take(self, kind: str, now: float, what: Any) -> None:
        before = self._state.phase
        match kind:
            case "message":
                self.painter.message(what)
            case "asked":
                self._count(now)
                self.painter.asked(self._state, now)
            case "begin":
                playbook, self._counters = what
                self._state = progress.after_begin(self._state, playbook, now)
            case "event":
                self._state = progress.after_event(self._state, what, now)
            case "end" if self._ended is None:
                self._ended = now
                self.painter.ended(self._state, now)
        if self._state.phase != before:
            self.painter.entered(self._state, now)
        name = progress.step_name(what) if kind == "event" else None
        if name:
            self.painter.step(name)


def choose(
    asked: str, verbose: bool, stream: TextIO | None, environment: Mapping[str, str], as_json: bool = False
) -> Silent:
    """How progress is shown.

    :param asked: one of ``CHOICES``.
    :param stream: stderr, None if it is closed.
    :param as_json: every line has to be an object, wherever it goes.
    """
    output = Output(stream)
    if asked == "json" or (as_json and (verbose or asked == "always")):
        return Json(output)
    if as_json:
        return Quiet(output)
    terminal = output.isatty()
    if asked != "never" and terminal and environment.get("TERM", "") not in ("", "dumb", "unknown"):
        return Live(output, verbose)
    if verbose or asked == "always" or (asked == "auto" and terminal):
        return Plain(output, verbose)
    return Silent(output)
