"""How progress is shown, on each kind of stderr. The display never makes a command fail."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import time
from pathlib import Path

import pyte
import pytest

from ec2_backup.show import display, progress
from ec2_backup.show.display import Display, Json, Live, Plain, Silent, choose
from ec2_backup.status import say
from tests.unit.events import began, said

SENDING = said(phase="streaming")
STEP = began("Stream the directory onto the volume")
SENT = said(moved={"taken": 1048576, "sent": 1048576})
NOWHERE = Path("/nonexistent")


class Terminal:
    """A terminal, and what its screen shows."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.screen = pyte.Screen(columns, rows)
        self.raw = b""
        self._bytes = pyte.ByteStream(self.screen)
        self._end, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            ready = select.select([self.master, self._end], [], [])[0]
            if self.master not in ready:  # it was closed, and everything is read
                return
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            if not data:  # it has hung up
                return
            self.raw += data
            self._bytes.feed(data)

    def lines(self) -> list[str]:
        """The screen's lines that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def shows(self, text: str) -> bool:
        """Wait until a line has this text."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if any(text in line for line in self.lines()):
                return True
            time.sleep(0.02)
        return False

    def hang_up(self) -> None:
        """Close it while it is in use."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self.master)  # its last descriptor
        os.close(nothing)

    def close(self) -> list[str]:
        """Close it, if it is open; return the lines that stay."""
        if not self.stream.closed:
            with contextlib.suppress(OSError):  # it has hung up
                self.stream.close()
            os.close(self._stop)
            self._thread.join()  # before the descriptor is used again
            os.close(self.master)
            os.close(self._end)
        return self.lines()


@pytest.fixture
def terminal():
    """A terminal of 80 by 24."""
    terminal = Terminal()
    yield terminal
    terminal.close()


CAPABLE = {"TERM": "xterm"}


@pytest.mark.parametrize(
    ("asked", "verbose", "term", "off", "on"),
    [
        ("auto", False, "xterm", Silent, Live),
        ("auto", True, "xterm", Plain, Live),
        ("auto", False, "dumb", Silent, Plain),
        ("auto", False, "", Silent, Plain),
        ("always", False, "xterm", Plain, Live),
        ("never", False, "xterm", Silent, Silent),
        ("never", True, "xterm", Plain, Plain),
        ("json", False, "xterm", Json, Json),
    ],
)
def test_how_progress_is_shown_depends_on_the_option_and_on_stderr(terminal, asked, verbose, term, off, on):
    environment = {"TERM": term} if term else {}
    assert type(choose(asked, verbose, io.StringIO(), environment)) is off
    assert type(choose(asked, verbose, terminal.stream, environment)) is on
    terminal.close()


def test_without_a_terminal_nothing_is_shown_but_messages():
    stream = io.StringIO()
    with Display(choose("auto", False, stream, CAPABLE)) as shown:
        shown.begin("backup", NOWHERE)
        shown.event(SENDING)
        say("warning: careful")
        shown.event(SENT)
    assert stream.getvalue() == "ec2-backup: warning: careful\n"
    assert list(shown.phases) == ["starting", "streaming"]


def test_verbose_gives_a_time_stamped_line_for_each_phase_and_step_and_a_summary():
    stream = io.StringIO()
    with Display(choose("auto", True, stream, CAPABLE)) as shown:
        shown.begin("backup", NOWHERE)
        shown.event(SENDING)
        shown.event(STEP)
        shown.event(SENT)
    stamps, texts = zip(*(line.split(" ", 2)[1:] for line in stream.getvalue().splitlines()), strict=True)
    assert all(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ") for stamp in stamps)
    assert texts == ("starting", "streaming", "  Stream the directory onto the volume", "1.0 MiB in 0 s")


def test_plain_lines_come_every_few_seconds_while_bytes_are_moved():
    stream = io.StringIO()
    plain = Plain(display.Output(stream), verbose=False)
    state = progress.enter(progress.start(0.0), progress.STREAMING, 0.0)
    plain.entered(state, 0.0)
    for now in range(1, 12):
        plain.tick(state, float(now))
    plain.tick(progress.start(0.0), 60.0)
    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == [
        "streaming",
        "streaming, 5 s",
        "streaming, 10 s",
    ]


def test_json_gives_an_object_a_line_messages_included_to_the_end_of_the_command():
    stream = io.StringIO()
    with Display(choose("json", False, stream, CAPABLE)) as shown:
        shown.event(SENDING)
        say("warning: careful")
        shown.event(SENT)
        shown.finish()
        say("error: too bad")
        print('{"already": "an object"}', file=sys.stderr)
    *rest, foreign = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert foreign == {"already": "an object"}
    assert [line["type"] for line in rest] == ["progress", "progress", "message", "summary", "message"]
    assert all(line["version"] == 1 for line in rest)
    assert rest[-1]["text"] == "error: too bad"
    assert rest[-2]["bytes"] == 1048576
    assert list(rest[-2]["phases"]) == ["starting", "streaming"]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (20, 5)])
def test_the_live_line_is_removed_and_leaves_messages_and_a_summary(columns, rows):
    terminal = Terminal(columns, rows)
    with Display(choose("auto", False, terminal.stream, CAPABLE)) as shown:
        shown.begin("backup", NOWHERE)
        assert terminal.shows("starting")
        shown.event(SENDING)
        assert terminal.shows("streaming")
        say("one")
        assert terminal.shows("ec2-backup: one")
        assert terminal.shows("streaming")
        shown.event(SENT)
        shown.finish()
        say("two")
    lines = terminal.close()
    text = "".join(lines)
    assert text.startswith("ec2-backup: one")
    assert text.endswith("ec2-backup: two")
    assert "1.0 MiB in 0 s" in text.replace("MiBin", "MiB in")  # folded at 20 columns
    assert "streaming" not in text
    assert terminal.screen.cursor.x == 0
    assert b"\x1b[?25l" not in terminal.raw  # the cursor is never hidden


def test_a_line_that_a_narrower_terminal_has_wrapped_is_removed_completely():
    terminal = Terminal(80, 24)
    with Display(choose("auto", False, terminal.stream, CAPABLE)) as shown:
        shown.begin("backup", NOWHERE)
        shown.event(SENDING)
        assert terminal.shows("streaming")
        length = len(terminal.lines()[0])
        fcntl.ioctl(terminal.stream, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 4, 0, 0))
        before = len(terminal.raw)
        say("one")
    terminal.close()
    above = -(-length // 4) - 1
    assert terminal.raw[before:].startswith(b"\r\x1b[2K\x1b[1A" * above + b"\r\x1b[2K")


def test_an_exception_removes_the_live_line(terminal):
    shown = Display(choose("auto", False, terminal.stream, CAPABLE))
    with contextlib.suppress(KeyboardInterrupt), shown:
        assert terminal.shows("starting")
        raise KeyboardInterrupt
    assert terminal.close() == []


def test_a_terminal_without_unicode_gets_a_bar_of_ascii(terminal):
    shown = Live(display.Output(io.TextIOWrapper(io.BytesIO(), encoding="ascii")), verbose=False)
    assert shown.marks == "#-"
    terminal.close()


@pytest.mark.parametrize("asked", ["auto", "always", "json"])
def test_a_full_or_closed_stderr_is_ignored(asked):
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
    with Display(choose(asked, True, full, CAPABLE)) as shown:
        shown.event(SENDING)
        say("unheard")
    assert "streaming" in shown.phases
    with Display(choose(asked, True, None, CAPABLE)) as shown:
        say("unheard")


def test_a_terminal_that_is_closed_is_ignored(terminal):
    with Display(choose("auto", False, terminal.stream, CAPABLE)) as shown:
        assert terminal.shows("starting")
        terminal.hang_up()
        shown.event(SENDING)
        say("unheard")
    assert "streaming" in shown.phases


def test_an_error_in_the_display_is_ignored(monkeypatch):
    def break_down(self, state, now):
        raise RuntimeError("bug")

    monkeypatch.setattr(Plain, "entered", break_down)
    stream = io.StringIO()
    with Display(choose("always", False, stream, CAPABLE)) as shown:
        say("heard all the same")
    assert stream.getvalue() == "ec2-backup: heard all the same\n"
    assert "starting" in shown.phases


@pytest.mark.parametrize("asked", ["auto", "always", "never"])
def test_sigusr1_gives_one_line_in_every_mode_and_the_handler_is_restored(asked):
    stream = io.StringIO()
    before = signal.getsignal(signal.SIGUSR1)
    with Display(choose(asked, False, stream, CAPABLE)) as shown:
        shown.event(SENDING)
        os.kill(os.getpid(), signal.SIGUSR1)
        shown.finish()
        os.kill(os.getpid(), signal.SIGUSR1)  # ignored, as it comes too late
    assert stream.getvalue().count("ec2-backup: streaming, 0 s\n") == 1
    assert signal.getsignal(signal.SIGUSR1) is before


def test_stderr_is_restored():
    before = sys.stderr
    with Display(choose("auto", False, io.StringIO(), CAPABLE)):
        assert sys.stderr is not before
    assert sys.stderr is before


def test_without_stderr_a_message_is_not_written_to_stdout(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    say("unheard")
    assert capsys.readouterr().out == ""
