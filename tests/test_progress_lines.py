import io
import sys

import pytest

from trsr.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_lines_come_at_growing_distances_with_count_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    told = []
    with Progress("scoring", 10_000, "users", now=clock) as progress:
        for second in range(1, 3601):
            clock.at += 1
            progress.advance(2)
            told += [(second, line) for line in lines_of(capsys)]
    assert [second for second, _ in told] == [10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440, 3040]
    assert told[0][1] == "scoring: 20 of 10,000 users, 2.0 a second, about 1 h 23 min left"
    assert told[-1][1] == "scoring: 6,080 of 10,000 users, 2.0 a second, about 32 min 40 s left"
    assert lines_of(capsys) == ["scoring: 7,200 of 10,000 users, ended after 1 h 00 min"]


def test_slow_steps_tell_how_long_each_takes_and_what_was_done_before_makes_no_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    progress = Progress("fine-tuning", 100, "steps", done=90, now=clock)
    progress.note(loss="0.5000")
    clock.at += 30
    progress.advance()
    assert lines_of(capsys) == ["fine-tuning: 91 of 100 steps, 30 s each, about 4 min 30 s left, loss 0.5000"]
    clock.at += 1
    progress.advance()
    progress.advance(0)
    assert lines_of(capsys) == []
    progress.close()
    assert lines_of(capsys) == ["fine-tuning: 92 of 100 steps, ended after 31 s, loss 0.5000"]
    progress.close()
    assert lines_of(capsys) == []


def test_short_work_and_work_that_nobody_waits_for_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("short", 3, "users", now=clock) as progress:
        clock.at += 9
        progress.advance(3)
    with Progress("hidden", 3, "users", shown=False, now=clock) as progress:
        clock.at += 900
        progress.advance(3)
    assert lines_of(capsys) == []


def test_a_terminal_has_a_bar_in_place_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("trsr.progress._BAR_AFTER_S", 0)
    clock = Clock()
    with Progress("summaries", 40, "blocks", now=clock) as progress:
        clock.at += 900
        progress.note(failed=3)
        progress.advance(40)
    drawn = sys.stderr.getvalue()
    assert "\rsummaries: 100%" in drawn
    assert "failed=3" in drawn
    assert "left" not in drawn
