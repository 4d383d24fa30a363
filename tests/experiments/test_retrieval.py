import numpy as np
import pytest

from trsr.baselines.registry import open_baseline
from trsr.config import Config
from trsr.config.data import DemoData, SplitRule
from trsr.experiments.protocol import Contest, open_contest
from trsr.experiments.systems import rank_panel, retrieval_depth
from trsr.records import Split


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    config = Config(
        data=DemoData(users=100, items=80),
        split=SplitRule(valid=0.2, test=0.2),
        out=tmp_path_factory.mktemp("retrieval") / "run",
    )
    return open_contest(config, say=lambda line: None)


def test_ranks_and_retrieved_items_follow_from_the_whole_table_of_scores(contest: Contest) -> None:
    panel = contest.panels[Split.TEST]
    baseline = open_baseline("tfidf", 0)
    baseline.fit(contest.data)
    found = rank_panel(baseline, panel, n_items=80, depth=10, seed=0)
    table = baseline.score(panel.users, panel.histories)
    for row, (history, target) in enumerate(zip(panel.histories, panel.targets, strict=True)):
        left = [item for item in range(80) if item == target or item not in set(history.tolist())]
        assert found.ranks.above[row] == sum(table[row, item] > table[row, target] for item in left)
        assert found.ranks.others[row] == len(left) - 1
        new = sorted(
            (table[row, item] for item in range(80) if item not in set(history.tolist())), reverse=True
        )
        assert np.allclose(table[row, found.retrieved[row]], new[:10])
        assert not set(found.retrieved[row].tolist()) & set(history.tolist())


def test_equal_scores_are_retrieved_in_an_order_of_chance(contest: Contest) -> None:
    panel = contest.panels[Split.TEST]

    class Constant:
        def score(self, users, histories, candidates=None):
            return np.zeros((len(users), 80))

    one, two = (rank_panel(Constant(), panel, 80, 10, seed) for seed in (0, 1))
    assert not np.array_equal(one.retrieved, two.retrieved)
    assert (np.sort(one.retrieved[0]) != np.arange(10)).any()
    assert (one.ranks.tied == one.ranks.others).all()


def test_no_more_is_retrieved_than_the_catalogue_leaves(contest: Contest) -> None:
    longest = max(len(set(h.tolist())) for panel in contest.panels.values() for h in panel.histories)
    assert retrieval_depth(contest, 100) == 80 - longest
    assert retrieval_depth(contest, 5) == 5


def test_candidates_of_every_sampler_hold_the_target_where_the_panel_says(contest: Contest) -> None:
    assert contest.samplers == ("uniform", "popularity")
    for panel in contest.panels.values():
        for sampler, candidates in panel.candidates.items():
            rows = np.arange(len(panel.users))
            assert (candidates[rows, panel.columns[sampler]] == panel.targets).all()
            assert candidates.shape == (len(panel.users), 21)
