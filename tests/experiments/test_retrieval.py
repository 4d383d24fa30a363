from pathlib import Path

import numpy as np
import pytest

from trsr.artifacts import RunFolder
from trsr.baselines.base import Baseline, open_baseline
from trsr.baselines.text import TextSimilarity
from trsr.baselines.training_data import TrainingData
from trsr.config import Config
from trsr.config.data import DemoData, SplitRule
from trsr.experiments.protocol import EvaluationProtocol, comparison_protocol
from trsr.experiments.systems import Baselines, rank_catalogue, retrieval_depth
from trsr.records import Split
from trsr.stages.prepare import prepare
from trsr.stages.work import Work


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> EvaluationProtocol:
    config = Config(
        data=DemoData(users=100, items=80),
        split=SplitRule(valid=0.2, test=0.2),
        out=tmp_path_factory.mktemp("retrieval") / "run",
    )
    work = Work(config, RunFolder(config.folder), lambda line: None)
    return comparison_protocol(work, prepare(work))


def test_ranks_and_retrieved_items_follow_from_the_whole_table_of_scores(
    protocol: EvaluationProtocol,
) -> None:
    data = protocol.splits[Split.TEST]
    baseline = open_baseline("tfidf", 0)
    baseline.fit(protocol.data)
    found = rank_catalogue(baseline, data, n_items=80, depth=10, seed=0)
    table = baseline.score(data.users, data.histories)
    for row, (history, target) in enumerate(zip(data.histories, data.targets, strict=True)):
        left = [item for item in range(80) if item == target or item not in set(history.tolist())]
        assert found.ranks.above[row] == sum(table[row, item] > table[row, target] for item in left)
        assert found.ranks.others[row] == len(left) - 1
        new = sorted(
            (table[row, item] for item in range(80) if item not in set(history.tolist())), reverse=True
        )
        assert np.allclose(table[row, found.retrieved[row]], new[:10])
        assert not set(found.retrieved[row].tolist()) & set(history.tolist())


def test_equal_scores_are_retrieved_in_an_order_of_chance(protocol: EvaluationProtocol) -> None:
    data = protocol.splits[Split.TEST]

    class Constant:
        def score(self, users, histories, candidates=None):
            return np.zeros((len(users), 80))

    one, two = (rank_catalogue(Constant(), data, 80, 10, seed) for seed in (0, 1))
    assert not np.array_equal(one.retrieved, two.retrieved)
    assert (np.sort(one.retrieved[0]) != np.arange(10)).any()
    assert (one.ranks.tied == one.ranks.others).all()


def test_a_hybrid_takes_systems_that_take_part_as_they_are(
    protocol: EvaluationProtocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    fitted: list[str] = []

    def listening(system: Baseline, data: TrainingData) -> None:
        fitted.append(system.kind())
        learn(system, data)

    learn = TextSimilarity.fit
    monkeypatch.setattr(TextSimilarity, "fit", listening)
    work = Work(protocol.config, RunFolder(tmp_path), said.append)
    hybrid = "ensemble(first='tfidf', second='popularity')"
    baselines = Baselines(work, protocol, kept=[hybrid])
    alone = baselines.scores("tfidf", "tfidf", 0, 10).value
    for seed in (0, 1):
        joined = baselines.scores(f"both-{seed}", hybrid, seed, 10).value
    assert fitted == ["tfidf"]
    [note] = joined.info.details["notes"]
    assert f"    {hybrid}: {note}" in said
    threshold = float(note.split()[1].rstrip(","))
    for place in range(10):
        own = (
            joined.catalogue[Split.TEST].retrieved[:, place]
            == alone.catalogue[Split.TEST].retrieved[:, place]
        )
        assert own.all() or place >= threshold
    again = Baselines(work, protocol, kept=[hybrid])
    assert again.fitted(hybrid, 1)._threshold == threshold
    assert fitted == ["tfidf"]


def test_no_more_is_retrieved_than_the_catalogue_leaves(protocol: EvaluationProtocol) -> None:
    longest = max(len(set(h.tolist())) for data in protocol.splits.values() for h in data.histories)
    assert retrieval_depth(protocol, 100) == 80 - longest
    assert retrieval_depth(protocol, 5) == 5


def test_candidates_of_every_sampler_hold_the_target_where_the_data_says(
    protocol: EvaluationProtocol,
) -> None:
    assert protocol.samplers == ("uniform", "popularity")
    for data in protocol.splits.values():
        for sampler, candidates in data.candidates.items():
            rows = np.arange(len(data.users))
            assert (candidates[rows, data.columns[sampler]] == data.targets).all()
            assert candidates.shape == (len(data.users), 21)
