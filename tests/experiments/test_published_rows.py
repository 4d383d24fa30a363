"""The rows of published tables, where the data are here: how many they are, and what simple systems reach.

With `-s` the figures of docs/tables.md are told, with intervals over users.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trsr.baselines.base import open_baseline, score_places
from trsr.config.load import load
from trsr.data.prepare import prepare
from trsr.evaluation.metrics import metrics_at
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.statistics import Estimate
from trsr.experiments.protocol import EvaluationProtocol, protocol_of
from trsr.experiments.scores import ScoreInfo, SeedScores, SystemScores, catalogue_frames, sampled_frames
from trsr.experiments.systems import rank_catalogue
from trsr.records import MEASURED, Split
from trsr.report.results import Kind

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(os.environ.get("TRSR_DATA", EXAMPLES.parents[1] / "shared" / "data"))


def asked(example: str, **overrides: Any) -> EvaluationProtocol:
    """Prepare the rows of an example; skip where its data are not here."""
    config = load(
        EXAMPLES / f"{example}.yaml", {key.replace("__", "."): value for key, value in overrides.items()}
    )
    if not Path(overrides["data__path"]).is_dir():
        pytest.skip(f"the data of {example} are not here")
    return protocol_of(config, prepare(config), both=False)


def measured(protocol: EvaluationProtocol, names: Sequence[str]) -> dict[str, Mapping[str, Estimate]]:
    """Measure systems on the test rows, and tell their figures."""
    rule, metrics = protocol.config.split, metrics_at([3, 5, 10])
    found = {}
    for name in names:
        system = open_baseline(name, 0)
        system.fit(protocol.data)
        data, n_items = protocol.splits[Split.TEST], protocol.prepared.items.height
        if rule.whole_catalogue:
            ranks = rank_catalogue(system, data, n_items, 0, 0, rule.keeps_history)
            scored = SeedScores({}, {Split.TEST: ranks}, ScoreInfo())
        else:
            own = protocol.samplers[0]
            table = score_places(system, data.users, data.histories, data.candidates[own])
            scored = SeedScores({Split.TEST: {own: table}}, {}, ScoreInfo())
        told = SystemScores(name, Kind.BASELINE, (0,), (scored,))
        frames = (
            catalogue_frames(told, protocol, Split.TEST, metrics)
            if rule.whole_catalogue
            else sampled_frames(told, protocol, Split.TEST, protocol.samplers[0], metrics)
        )
        result = summarise(frames[0], 1000, 0)
        found[name] = {metric.partition(" ")[0]: value for metric, value in result.metrics.items()}
        print(
            name, {key: tuple(round(x, 4) for x in (v.mean, v.low, v.high)) for key, v in found[name].items()}
        )
        print(*system.notes, sep="\n")
    return found


def test_the_rolling_rows_of_industrial() -> None:
    protocol = asked("table_industrial", data__path=str(DATA / "amazon_industrial"))
    rows = {split: len(protocol.splits[split].users) for split in MEASURED}
    assert rows == {Split.VALID: 4532, Split.TEST: 4533}
    assert len(set(protocol.splits[Split.TEST].persons)) == 1987
    found = measured(protocol, ["popularity", "tfidf(title=True)", "mix"])
    # By a script of its own, with another tokenizer, titles had .150 and .081.
    assert found["tfidf(title=True)"]["Recall@10"].mean == pytest.approx(0.150, abs=0.02)
    assert found["mix"]["NDCG@10"].low > found["tfidf(title=True)"]["NDCG@10"].mean


def test_the_impressions_of_mind() -> None:
    texts = [str(DATA / "mind_recprompt" / f"{part}.csv") for part in ("valid", "test")]
    valid = [texts[0], str(DATA / "mind_sample" / "behaviors.tsv")]
    paths = {"data__path": str(DATA / "mind_sample"), "data__test": texts[1]}
    protocol = asked("table_mind", data__texts=texts, data__valid=valid, **paths)
    data = protocol.splits[Split.TEST]
    assert (data.candidates["impressions"].shape, int(data.positives.sum())) == ((400, 10), 400)  # type: ignore[union-attr]
    assert len(protocol.splits[Split.VALID].users) == 100 + 1060
    found = measured(protocol, ["random", "popularity", "bm25", "tfidf", "mix"])
    assert found["random"]["AUC"].low < 0.5 < found["random"]["AUC"].high
    assert found["tfidf"]["AUC"].low > 0.5


def test_the_two_hundred_users_of_games() -> None:
    folder = DATA / "games6k"
    protocol = asked("table_games", data__path=str(folder), candidates__file=str(folder / "games200.random"))
    data = protocol.splits[Split.TEST]
    lines = (folder / "games200.random").read_text(encoding="utf-8").splitlines()
    assert sorted(data.users) == sorted(line.split("\t")[0] for line in lines)
    assert data.candidates["file"].shape == (200, 20)
    found = measured(protocol, ["popularity", "bm25", "tfidf", "itemknn", "mix"])
    assert found["itemknn"]["NDCG@10"].low > found["bm25"]["NDCG@10"].mean
