from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import trsr

from counting_server import CountingServer, counting_server
from small_run import small_config_file

PRICED = {"summary__price": {"prompt": 2.0, "completion": 10.0, "currency": "EUR"}}


def configure(folder: Path, server: CountingServer, **overrides: Any) -> Path:
    writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted", "concurrency": 4}
    settings = {"data__users": 12, "split__by": "time", "summary__sampling__max_new_tokens": 40} | overrides
    return small_config_file(folder, summary__writer=writer, **settings)


def plan(config: Path, *options: object) -> dict[str, Any]:
    done = trsr("plan", config, "--json", *options)
    assert done.returncode == 0, done.stderr
    rows: dict[str, Any] = json.loads(done.stdout)
    return rows


def bill(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "run" / "bill.json").read_text(encoding="utf-8"))
    return value


@pytest.mark.parametrize("paradigm", ["recurrent", "hierarchical"])
def test_the_planned_calls_are_those_that_a_run_makes(tmp_path: Path, paradigm: str) -> None:
    with counting_server() as server:
        config = configure(tmp_path, server, summary__paradigm=paradigm)
        planned = plan(config)[paradigm]
        assert not server.asked  # a plan pays for nothing
        assert planned["money"] is None  # not 0: nobody gave a price
        assert planned["seconds"] is None
        assert planned["completion_tokens"] == 40 * planned["calls"]
        done = trsr("summarize", config)
        assert done.returncode == 0, done.stderr
        assert sum(server.asked.values()) == planned["calls"]
        assert plan(config)[paradigm]["calls"] == 0
    lines = done.stdout.splitlines()
    assert sum(line.strip().startswith("planned") for line in lines) == 2
    written = bill(tmp_path)
    assert written["finished"]
    assert {name: written["planned"][name] for name in planned if name != "basis"} == {
        name: value for name, value in planned.items() if name != "basis"
    }
    assert (written["actual"]["calls"], written["actual"]["money"]) == (planned["calls"], None)
    assert written["actual"]["calls_reused"] == planned["calls_reused"]
    assert written["actual"]["seconds"] > 0
    assert written["actual"]["completion_tokens"] == 8 * planned["calls"]


def test_a_measured_sample_gives_time_and_lengths_and_is_not_paid_twice(tmp_path: Path) -> None:
    with counting_server(delay_s=0.05) as server:
        config = configure(tmp_path, server, **PRICED)
        before = plan(config)["recurrent"]
        after = plan(config, "--measure", 8)["recurrent"]
        assert sum(server.asked.values()) == 8
        assert (after["calls"], after["calls_reused"]) == (before["calls"] - 8, before["calls_reused"] + 8)
        assert after["completion_tokens"] == 8 * after["calls"]  # as long as the server's answers are
        # Four at once, 50 ms each: not faster than 12.5 ms a call.
        assert 0.0125 * after["calls"] <= after["seconds"] < 1.0 * after["calls"]
        expected = (2 * after["prompt_tokens"] + 10 * after["completion_tokens"]) / 1e6
        assert after["money"] == pytest.approx(expected)
        assert after["currency"] == "EUR"
        assert "a single prompt is" in after["basis"]
        done = trsr("summarize", config)
        assert done.returncode == 0, done.stderr
        assert set(server.asked.values()) == {1}
    written = bill(tmp_path)
    # The sample has told how the server counts: the bill is right to a few in a hundred.
    assert written["actual"]["prompt_tokens"] == pytest.approx(written["planned"]["prompt_tokens"], rel=0.1)
    assert written["actual"]["money"] == pytest.approx(written["planned"]["money"], rel=0.1)


def test_a_dry_run_tells_the_same_as_a_plan(tmp_path: Path) -> None:
    with counting_server() as server:
        config = configure(tmp_path, server)
        dry, planned = trsr("summarize", config, "--dry-run"), trsr("plan", config)
        assert not server.asked
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout == planned.stdout
    assert planned.stdout.count("unknown") == 6  # time and money of three paradigms
    assert "hierarchical" in planned.stdout


def test_without_a_model_nothing_is_billed(tmp_path: Path) -> None:
    config = small_config_file(tmp_path)
    assert plan(config)["recurrent"]["money"] == 0.0
    refused = trsr("plan", config, "--measure", 3)
    assert refused.returncode == 2
    assert "this configuration calls none" in refused.stderr
    assert trsr("summarize", config, "--measure", 3).returncode == 2


def test_a_cap_on_calls_stops_cleanly_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    with counting_server() as server:
        config = configure(tmp_path, server)
        needed = plan(config)["recurrent"]["calls"]
        stopped = trsr("summarize", config, "--max-calls", 10)
        assert stopped.returncode == 3, stopped.stdout + stopped.stderr
        assert sum(server.asked.values()) == 10
        assert "the cap on what may be paid is reached (max_calls 10): 10 calls made" in stopped.stderr
        assert "--max-calls" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert (bill(tmp_path)["finished"], bill(tmp_path)["actual"]["calls"]) == (False, 10)
        assert plan(config)["recurrent"]["calls"] == needed - 10
        done = trsr("summarize", config, "--max-calls", needed)
        assert done.returncode == 0, done.stderr
        assert set(server.asked.values()) == {1}
        assert len(server.asked) == needed
    [earlier] = bill(tmp_path)["earlier"]
    assert earlier["actual"]["calls"] == 10


def test_a_cap_on_money_is_not_passed(tmp_path: Path) -> None:
    with counting_server() as server:
        config = configure(tmp_path, server, **PRICED)
        whole = plan(config)["recurrent"]["money"]
        cap = whole / 3
        stopped = trsr("summarize", config, "--max-cost", cap)
        assert stopped.returncode == 3, stopped.stderr
        assert "EUR" in stopped.stderr
        actual = bill(tmp_path)["actual"]
        assert 0.3 * cap < actual["money"] <= cap
        assert actual["calls"] == sum(server.asked.values())
        assert trsr("summarize", config, "--max-cost", 10 * whole).returncode == 0


def test_a_server_that_tells_no_usage_is_billed_as_reserved_and_the_cap_holds(tmp_path: Path) -> None:
    with counting_server() as server:
        server.tells_usage = False
        config = configure(tmp_path, server, summary__price={"prompt": 0.0, "completion": 1e6})
        stopped = trsr("summarize", config, "--max-cost", 10 * 40)  # ten calls of forty tokens
        assert stopped.returncode == 3, stopped.stderr
        assert sum(server.asked.values()) == 10
    actual = bill(tmp_path)["actual"]
    assert (actual["calls"], actual["calls_unreported"], actual["money"]) == (10, 10, 400.0)
    assert "about 400.00 USD" in stopped.stdout
    assert "Of 10 calls, 10 came without a whole usage report" in stopped.stdout


def test_a_cap_on_money_without_a_price_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    with counting_server() as server:
        refused = trsr("summarize", configure(tmp_path, server), "--max-cost", 1)
        assert not server.asked
    assert refused.returncode == 2
    assert "needs a price" in refused.stderr


def test_a_trial_is_planned_as_it_is_run_and_paid_once(tmp_path: Path) -> None:
    with counting_server() as server:
        config = configure(tmp_path, server, data__users=40)
        whole = plan(config)["recurrent"]["calls"]
        planned = plan(config, "--users", 20)["recurrent"]["calls"]
        assert 0 < planned < whole
        done = trsr("summarize", config, "--users", 20)
        assert done.returncode == 0, done.stderr
        assert pl.read_parquet(tmp_path / "run" / "summaries.parquet").height == 20
        assert sum(server.asked.values()) == planned
        assert plan(config)["recurrent"]["calls"] == whole - planned  # the trial's answers are kept
        refused = trsr("prepare", config, "--users", 1)
    assert refused.returncode == 2
    assert "history.users: of " in refused.stderr
    assert "ask for" in refused.stderr
