# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Showing the progress of a command on stderr.

ansible-runner's loop, a signal handler and ``say`` only put what is to be shown into a queue. One thread reads the
queue, keeps the state, and is the only one that writes. So no line is written into the middle of the live line, and a
terminal that blocks does not block the backup. Errors of stderr and of this module never end a command.
"""

import argparse
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
from ansible_collections.ec2_backup.ebs.plugins.module_utils.milestones import MOVING
from ansible_collections.ec2_backup.ebs.plugins.module_utils.times import stamp
from ec2_backup.run.playbook import Observer
from ec2_backup.show import progress
from ec2_backup.show.progress import State
from ec2_backup.status import json_line

CHOICES = ("auto", "always", "never", "json")
TICK = 0.25  # seconds; the streams write their counts as often
PLAIN_INTERVAL = 5.0  # seconds between lines while bytes go by
JSON_INTERVAL = 1.0
# A terminal that becomes narrower wraps a line that is too long, and erasing that is not reliable: so it is kept short.
WIDEST = 79
PREFIX = "ec2-backup: "


class Output:
    """A text stream that ignores write errors, and writes nothing more after the first one."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self.stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """Write the text at once. Characters that the encoding does not have are escaped."""
        if self.stream is not None:
            try:
                self.stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
                self.stream.flush()
            except (OSError, ValueError):  # a full disk, a terminal that is gone; a closed stream
                self.stream = None
        return len(text)

    def flush(self) -> None:
        """Do nothing, as each write is flushed."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        """Return the descriptor."""
        if self.stream is None:
            raise OSError("no standard error")
        return self.stream.fileno()


class Silent:
    """Shows messages, and the progress only on request."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def message(self, text: str) -> None:
        """Show a line that is not progress."""
        self.output.write(text + "\n")

    def entered(self, state: State, now: float) -> None:
        """Take note that a phase has begun."""

    def step(self, name: str) -> None:
        """Take note that a step has begun."""

    def tick(self, state: State, now: float) -> None:
        """Show what is to be shown regularly."""

    def asked(self, state: State, now: float) -> None:
        """Show the progress, as a signal has asked for it."""
        self.message(PREFIX + progress.line(state, now))

    def ended(self, state: State, now: float) -> None:
        """Show what is to be shown when the command has ended."""


class Plain(Silent):
    """Shows a line with the time for each phase, and further ones while bytes are moved."""

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
        if state.phase in MOVING and now - self.last >= PLAIN_INTERVAL:
            self.message(f"{PREFIX}{stamp()} {progress.line(state, now)}")
            self.last = now

    def ended(self, state: State, now: float) -> None:
        self.message(f"{PREFIX}{stamp()} {progress.summary(state, now)}")


class Json(Silent):
    """Shows the progress each second, and all messages, as an object a line (docs/progress.md)."""

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
    """Shows messages as an object a line, and the progress only on request."""

    def entered(self, state: State, now: float) -> None:
        """Show nothing."""

    def tick(self, state: State, now: float) -> None:
        """Show nothing."""

    def ended(self, state: State, now: float) -> None:
        """Show nothing."""


ERASE = "\r\x1b[2K"
UP = "\x1b[1A"


class Live(Silent):
    """One line at the bottom of a terminal that changes with time; all other lines are printed above it."""

    def __init__(self, output: Output, verbose: bool) -> None:
        super().__init__(output)
        self.verbose = verbose
        self.marks = "━─" if output.encoding.lower().replace("-", "") == "utf8" else "#-"
        self.shown = ""
        """The line as it was last drawn; empty if none is on the screen."""
        self.bold = 0
        """How many of its characters are bold."""

    def message(self, text: str) -> None:
        self.output.write(f"{self._erased()}{text}\n{self._drawn(self.shown[: self._width()])}")

    def step(self, name: str) -> None:
        if self.verbose:
            self.message(f"{PREFIX}{stamp()} {name}")

    def entered(self, state: State, now: float) -> None:
        self.tick(state, now)

    def tick(self, state: State, now: float) -> None:
        if not self._in_foreground():
            return  # another program uses the terminal: a shell that somebody types in
        self.bold = len(state.phase)
        self.output.write(self._erased() + self._drawn(progress.live(state, now, self._width(), self.marks)))

    def ended(self, state: State, now: float) -> None:
        self.output.write(self._erased() + self._drawn(""))
        if self.verbose or state.before or state.taken:
            self.message(PREFIX + progress.summary(state, now))

    def _drawn(self, text: str) -> str:
        """Return what draws the line. The characters are all one column wide."""
        self.shown = text
        return f"\x1b[1m{text[: self.bold]}\x1b[0m{text[self.bold :]}" if text else ""

    def _erased(self) -> str:
        """Return what erases the line, also if the terminal has become narrower and has wrapped it."""
        if not self.shown:
            return ""
        rows = -(-len(self.shown) // (self._columns() or len(self.shown)))
        return (ERASE + UP) * (rows - 1) + ERASE

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
            return True  # it is not a terminal that has a foreground process
        return owner in (0, os.getpgrp())


class Lines(io.TextIOBase):
    """Replaces ``sys.stderr``: its lines are passed to the display."""

    def __init__(self, display: "Display") -> None:
        self._display = display
        self._part = ""

    def write(self, text: str) -> int:
        *lines, self._part = (self._part + text).split("\n")
        for whole in lines:
            self._display.tell("message", whole)
        return len(text)

    def finish(self) -> None:
        """Pass on a last line without a newline."""
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
    """Observes a command's playbooks. As a context manager it takes over ``sys.stderr`` and SIGUSR1.

    ``finish`` removes the live line and shows a summary; later lines are shown at once.
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
        """The seconds of each phase, in the order in which they came; complete after ``finish``."""
        return progress.phases(self._state, time.monotonic() if self._ended is None else self._ended)

    def tell(self, kind: str, what: Any = None) -> None:
        """Pass something on to be shown; may be called from a signal handler."""
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
        """Remove the live line and show the summary. Does nothing when called again."""
        if self._finished:
            return
        self._queue.put(("end", time.monotonic(), None))
        self._thread.join()
        self._finished = True
        while not self._queue.empty():  # what came after the end, or after an error in the thread
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
        except Exception:  # an error of the display must not end the backup
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
        counted = meter.read(self._counters) if self._counters and self._state.phase in MOVING else None
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
        for step in progress.steps(what) if kind == "event" else ():
            self.painter.step(step)


def choose(
    asked: str, verbose: bool, stream: TextIO | None, environment: Mapping[str, str], as_json: bool = False
) -> Silent:
    """Choose how progress is shown.

    :param asked: one of ``CHOICES``.
    :param stream: stderr, None if it is closed.
    :param as_json: whether every line has to be an object.
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


def watch(arguments: argparse.Namespace) -> Display:
    """Return the display that the command line asks for, a context manager."""
    verbose = bool(arguments.verbose or os.environ.get("EC2_BACKUP_VERBOSE"))
    return Display(choose(arguments.progress, verbose, sys.stderr, os.environ, arguments.json))
