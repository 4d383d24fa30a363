"""The library as a notebook uses it: frames in, fitted rankers, measures out."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest

import trsr
from trsr.config.data import DemoData
from trsr.config.ranking import Evaluation
from trsr.evaluation.scoreboard import evaluate as measured
from trsr.records import ITEM, SCORE, SPLIT, USER, Split

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.py"
SMALL = {
    "kind": "compact",
    "hidden": 32,
    "layers": 1,
    "heads": 2,
    "vocabulary": 700,
    "pretrain_epochs": 1,
    "pretrain_questions": 32,
}
PROMPT = {"item_tokens": 12, "max_tokens": 256, "summary_tokens": 32}


class Quickstart(NamedTuple):
    """The README's program, run once on a small shop: its variables, what it said, where it wrote."""

    made: dict[str, Any]
    said: str
    folder: Path


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    folder = tmp_path_factory.mktemp("quickstart")
    small = {
        "users=2_000": "users=120, items=80",
        "negatives=20": "negatives=20, valid=0.2, test=0.2",
        '"compact", epochs=2': f"{SMALL}, prompt={PROMPT}, epochs=1",
    }
    source = QUICKSTART.read_text(encoding="utf-8")
    for usual, changed in small.items():
        assert source.count(usual) == 1
        source = source.replace(usual, changed)
    made: dict[str, Any] = {"__name__": "quickstart"}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.chdir(folder)
        exec(compile(source, str(QUICKSTART), "exec"), made)
    return Quickstart(made, said.getvalue(), folder)


@pytest.fixture(scope="module")
def protocol(quickstart: Quickstart) -> trsr.EvaluationProtocol:
    return quickstart.made["protocol"]


@pytest.fixture(scope="module")
def ranker(quickstart: Quickstart) -> trsr.TextRanker:
    return quickstart.made["ranker"]


def scored(system: object, protocol: trsr.EvaluationProtocol, split: Split = Split.TEST) -> np.ndarray:
    data = protocol.splits[split]
    return system.score(data.users, data.histories, data.candidates["uniform"])


def test_the_quickstart_runs_and_the_readme_shows_it(quickstart: Quickstart) -> None:
    source = QUICKSTART.read_text(encoding="utf-8")
    readme = (QUICKSTART.parents[1] / "README.md").read_text(encoding="utf-8")
    shown = [
        block
        for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
        if "fused.save" in block
    ]
    assert [block.strip() in source for block in shown] == [True]
    assert quickstart.said.count("NDCG@10") == 4
    assert "Ranking(items=(RankedItem(" in quickstart.said
    assert (quickstart.folder / "ranker" / "bundle.json").exists()


def test_frames_of_every_library_are_one_data_set() -> None:
    items = pl.DataFrame({"sku": [1, 2, 3], "title": ["Mug", "Saw", None], "price": [1.5, 2.0, 3.0]})
    events = pl.DataFrame(
        {"who": ["007", "007", "8"], "sku": [2, 1, 9], "at": ["2024-05-02", "2024-05-01", "2024-01-01"]}
    )
    names = {"item_id": "sku", "user_column": "who", "item_column": "sku", "time_column": "at"}
    pairs = [(items, events), (items.to_arrow(), events.to_arrow()), (items.to_pandas(), events.lazy())]
    made = [trsr.from_frames(*pair, **names) for pair in pairs]
    for data in made:
        assert data.items.equals(made[0].items)
        assert data.histories.equals(made[0].histories)
    assert made[0].histories.row(0) == ("007", ["1", "2"], [1714521600, 1714608000])
    assert any("item 9 of user 8" in example for each in made[0].findings for example in each.examples)
    lists = pd.DataFrame({"who": ["a"], "item_ids": [[1, 2, 1]]})
    listed = trsr.from_frames(items, histories=lists, item_id="sku", user_column="who", text_fields=["title"])
    assert listed.histories["item_ids"].to_list() == [["1", "2", "1"]]
    assert listed.fields == ("title",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([1, 2], pl.DataFrame()), "items must be a data frame"),
        ((pl.DataFrame({"item_id": ["a"], "title": ["b"]}),), "exactly one of `events` and `histories`"),
        (
            (pl.DataFrame({"sku": ["a"], "title": ["b"]}), pl.DataFrame({"user_id": ["u"]})),
            "no column 'item_id'",
        ),
    ],
)
def test_what_is_no_shop_is_refused(arguments: tuple[object, ...], told: str) -> None:
    with pytest.raises(trsr.DataError, match=told):
        trsr.from_frames(*arguments)


def test_figures_are_those_of_a_table_of_scores(protocol: trsr.EvaluationProtocol) -> None:
    """The same systems, once through `evaluate`, once through joins of ids."""
    table = trsr.evaluate({"tfidf": "tfidf", "lot": "random"}, protocol, [trsr.Recall(k=3), trsr.NDCG(k=10)])
    from trsr.baselines.base import open_baseline  # noqa: PLC0415

    system = open_baseline("tfidf", 0)
    system.fit(protocol.data)
    candidates = protocol.prepared.candidates.filter(pl.col(SPLIT) == "test").sort(USER)
    pairs = candidates.select(USER, pl.col("candidates").alias(ITEM)).explode(ITEM)
    scores = pairs.with_columns(pl.Series(SCORE, scored(system, protocol).ravel()))
    result = measured(candidates, scores, Evaluation(ks=(3, 10)), 0)["test"]
    row = table.filter(pl.col("system") == "tfidf", pl.col("metric") == "NDCG@10").row(0, named=True)
    assert row["mean"] == pytest.approx(result.metrics["NDCG@10"].mean)
    assert (row["low"], row["high"]) == pytest.approx(
        (result.metrics["NDCG@10"].low, result.metrics["NDCG@10"].high)
    )
    assert row["users"] == result.users == len(protocol.splits[Split.TEST].users)
    # The best by the last metric is the reference: nothing is tested against itself.
    assert row["p"] is None
    other = table.filter(pl.col("system") == "lot")
    assert (other["difference"] > 0).all()
    assert other["p"].null_count() == 0


def test_own_objects_are_measured_beside_names(protocol: trsr.EvaluationProtocol) -> None:
    class Oracle:
        def score(self, users: object, histories: object, candidates: np.ndarray) -> np.ndarray:
            data = protocol.splits[Split.TEST]
            return (candidates == data.targets[:, None]).astype(float)

    class Broken:
        def score(self, users: object, histories: object, candidates: np.ndarray) -> np.ndarray:
            return np.full(candidates.shape, np.nan)

    table = trsr.evaluate({"oracle": Oracle(), "popular": "popularity"}, protocol, reference="popular")
    assert set(table.filter(pl.col("system") == "oracle")["mean"]) == {1.0}
    with pytest.raises(trsr.DataError, match="NaN"):
        trsr.evaluate({"broken": Broken()}, protocol)
    with pytest.raises(trsr.ConfigError, match="reference must be one of oracle, got 'oracel'"):
        trsr.evaluate({"oracle": Oracle()}, protocol, reference="oracel")


def test_a_saved_ranker_scores_as_before_and_knows_no_user(
    ranker: trsr.TextRanker, protocol: trsr.EvaluationProtocol, tmp_path: Path
) -> None:
    fused = trsr.FusedRanker(ranker, ["itemknn", "tfidf"]).fit(protocol)
    assert {"language_model", "itemknn", "tfidf"} < set(fused.weights)
    fused.save(tmp_path / "shipped")
    summaries = trsr.write_summaries(protocol)
    again = trsr.TextRanker.load(tmp_path / "shipped", summaries)
    assert np.array_equal(scored(again, protocol), scored(ranker, protocol))
    data = protocol.splits[Split.TEST]
    ids = protocol.prepared.items[ITEM]
    told = dict(summaries.select(USER, "summary").iter_rows())
    with trsr.Recommender.load(tmp_path / "shipped") as recommender:
        history, offered = (
            ids.gather(row[0]).to_list() for row in (data.histories, data.candidates["uniform"])
        )
        ranking = recommender.rank(history=history, candidates=offered, summary=told[data.users[0]])
    served = {item.item_id: item.score for item in ranking.items}
    assert [served[item] for item in offered] == pytest.approx(scored(fused, protocol)[0], abs=1e-6)
    # Other tools must not find in what is shipped whom it was learnt from.
    texts = [path.read_bytes() for path in (tmp_path / "shipped").rglob("*") if path.is_file()]
    assert not [text for text in texts if data.users[0].encode() in text]
    # What is there is replaced whole.
    ranker.save(tmp_path / "shipped")
    assert not (tmp_path / "shipped" / "fusion").exists()


def test_a_summary_reaches_the_score(ranker: trsr.TextRanker, protocol: trsr.EvaluationProtocol) -> None:
    own = scored(ranker, protocol)
    data = protocol.splits[Split.TEST]
    try:
        ranker.told(
            pl.DataFrame({USER: data.users, "summary": ["Likes nothing but rope."] * len(data.users)})
        )
        assert not np.allclose(scored(ranker, protocol), own)
        with pytest.raises(trsr.DataError, match="have no summary, the first is"):
            scored(ranker, protocol, Split.VALID)
    finally:
        ranker.told(trsr.write_summaries(protocol))


def test_what_is_not_fitted_says_so(protocol: trsr.EvaluationProtocol, tmp_path: Path) -> None:
    new = trsr.TextRanker.from_pretrained("compact")
    with pytest.raises(trsr.DataError, match="call fit first"):
        scored(new, protocol)
    with pytest.raises(trsr.DataError, match="call fit first"):
        trsr.FusedRanker(new).save(tmp_path / "x")
    with pytest.raises(trsr.ConfigError, match=r"training\.epoch: no such setting"):
        trsr.TextRanker.from_pretrained("compact", epoch=3)
    with pytest.raises(trsr.ConfigError, match="no baseline 'esae'"):
        trsr.FusedRanker(new, ["esae"])


def test_settings_of_preparation_hold(protocol: trsr.EvaluationProtocol) -> None:
    shop = trsr.read(DemoData(users=120, items=80))
    other = trsr.prepare(shop, negatives=5, sampler="popularity", min_history=4, max_history=8, seed=3)
    assert other.samplers == ("popularity",)
    assert other.splits[Split.TEST].candidates["popularity"].shape[1] == 6
    assert max(map(len, other.splits[Split.TEST].histories)) == 7
    assert len(other.prepared.histories) > len(protocol.prepared.histories)
    with pytest.raises(trsr.ConfigError, match=r"split\.by"):
        trsr.prepare(shop, split_by="lot")
