import numpy as np
import polars as pl
import recommend
from recommend import NAMES, VECTORS, histories, index_recall, overlap, titles, topics_of

from trsr.baselines.base import open_baseline
from trsr.baselines.training_data import TrainingData
from trsr.fusion.retrieval import Retriever


def test_histories_stay_in_three_topics() -> None:
    topics = topics_of(5000)
    for history in histories(5000, 20, seed=3):
        assert len(history) == recommend.HISTORY
        assert len(set(topics[history])) <= 3


def test_a_made_up_catalogue_is_retrieved_from_and_an_index_is_held_against_it() -> None:
    size = 300
    items = pl.DataFrame({"item_id": [f"i{place}" for place in range(size)], "title": titles(size)})
    nobody = np.empty((0, 0), np.int32)
    data = TrainingData(items, (), tuple(histories(size, 50, 4)), (), (), nobody, np.empty(0, np.int64))
    systems = {name: open_baseline(name, 0) for name in NAMES}
    for system in systems.values():
        system.fit(data)
    exact = Retriever(systems, data.counts, NAMES)
    assert exact.propose(["u"], histories(size, 1, 5), 60).places.shape == (1, 60)
    assert index_recall(exact, histories(size, 2, 5)) is None
    assert VECTORS in systems
    assert overlap([[1, 2], [3, 4]], [[2, 1], [4, 9]]) == 0.75
