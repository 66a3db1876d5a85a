from __future__ import annotations

import logging

import pytest
from rich.console import Console

from cosma_sched.cli.watch import Lines, LiveLine, watching
from cosma_sched.progress import Event


def test_the_live_line_remembers_what_earlier_phases_knew() -> None:
    line = LiveLine("densenet121")
    line.observe(Event("order", 0.5, incumbent=1200, bound=300))
    line.observe(Event("search", 0.01, bound=200, note="64 labels"))
    assert str(line) == "search  traffic 1,200  bound 300  gap 75.0 %  64 labels"


def test_the_live_line_is_one_line_on_any_terminal() -> None:
    line = LiveLine("a" * 100)
    assert len(Console(width=40).render_lines(line)) == 1


def test_traffic_zero_has_no_gap() -> None:
    line = LiveLine("x")
    line.observe(Event("incumbent", 0.0, incumbent=0, bound=0))
    assert str(line) == "incumbent  traffic 0  bound 0"


def test_lines_are_printed_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for label in range(100):
        lines.observe(Event("search", 0.1, incumbent=1000, bound=label))
    lines.observe(Event("search", 0.1, incumbent=396, bound=9))
    printed = capsys.readouterr().err.splitlines()
    assert 2 <= len(printed) <= 4
    assert printed[-1].endswith("traffic 396  bound 99  gap 75.0 %")


def test_nothing_is_observed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with watching("x") as observers:
        assert observers == []


def test_the_log_is_shown_for_the_time_of_the_block_only(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("cosma_sched.somewhere")
    with watching("x", verbose=2):
        logger.debug("inside")
    logger.warning("outside")
    assert "inside" in capsys.readouterr().err
    assert logging.getLogger("cosma_sched").level == logging.NOTSET
