import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_catalogue import ITEMS, TOPICS, Counts, People, Topics, people

from trsr.errors import ArtifactError, ConfigError, DataError
from trsr.fusion.features import REPEATED
from trsr.fusion.retrieval import (
    CatalogueFusion,
    Retriever,
    firsts,
    fit_catalogue,
    join_lists,
)

COUNTS = np.arange(ITEMS, dtype=np.int64)
SYSTEMS = {"tfidf": Topics(), "popularity": Counts()}


@pytest.fixture
def retriever() -> Retriever:
    return Retriever(SYSTEMS, COUNTS, ["tfidf", "popularity"])


def learnt(
    crowd: People, retriever: Retriever, items: int = 20
) -> tuple[CatalogueFusion, np.ndarray, np.ndarray]:
    return fit_catalogue(
        retriever,
        crowd.users,
        crowd.histories,
        crowd.targets,
        items,
        lambda places: np.full(places.shape, 0.5),
    )


def test_lists_are_joined_by_reciprocal_rank() -> None:
    lists = [np.array([4, 7, 1]), np.array([7, 2])]
    # 7: 1/62 + 1/61; 4: 1/61; 2: 1/62; 1: 1/63.
    assert join_lists(lists, 4, np.arange(9)).tolist() == [7, 4, 2, 1]
    assert join_lists(lists, 1, np.arange(9)).tolist() == [7]
    assert join_lists([], 3, np.arange(9)).tolist() == []


def test_equal_scores_are_drawn_by_lot_and_never_by_place() -> None:
    lot = np.array([3, 2, 1, 0])
    level = np.zeros(4)
    assert firsts(level, np.ones(4, bool), 4, lot).tolist() == [3, 2, 1, 0]
    assert firsts(level, np.ones(4, bool), 2, lot).tolist() == []
    assert firsts(level, np.ones(4, bool), 2, lot, ties=True).tolist() == [3, 2]
    assert firsts(level, np.array([True, False, False, False]), 2, lot).tolist() == [0]


def test_the_history_is_proposed_beside_what_is_retrieved(retriever: Retriever) -> None:
    history = np.array([6, 0, 6], np.int32)
    proposed = retriever.propose(["u"], [history], 12)
    [places] = proposed.places
    assert len(set(places)) == 12
    assert places[:2].tolist() == [6, 0]  # newest first
    assert proposed.evidence.repeats is not None
    assert proposed.evidence.repeats[0, :3].tolist() == [2, 1, 0]
    own = np.arange(12, ITEMS, TOPICS)
    assert set(own[:4]) <= set(places)  # the best of the topic
    alone = retriever.propose(["u"], [history], 12, repeats=False)
    assert not set(history) & set(alone.places[0])
    for name, system in SYSTEMS.items():
        said = system.score(["u"], [history], proposed.places)
        assert proposed.evidence.scores[name].tolist() == said.tolist()


def test_a_long_history_takes_half_the_places_at_most(retriever: Retriever) -> None:
    history = np.arange(0, ITEMS, 2, dtype=np.int32)
    [places] = retriever.propose(["u"], [history], 10).places
    assert places[:5].tolist() == history[::-1][:5].tolist()
    assert not set(places[5:]) & set(history)


def test_whoever_knows_nothing_of_a_history_proposes_nothing() -> None:
    silent = Retriever({"tfidf": Topics()}, COUNTS, ["tfidf"])
    [places] = silent.propose(["newcomer"], [np.empty(0, np.int32)], 5).places
    assert places.tolist() == [59, 58, 57, 56, 55]  # what training saw most often


def test_only_what_is_allowed_is_proposed(retriever: Retriever) -> None:
    allowed = np.zeros(ITEMS, bool)
    allowed[[1, 2, 3, 6]] = True
    history = np.array([6, 0], np.int32)
    assert sorted(retriever.propose(["u"], [history], 40, allowed=allowed).places[0]) == [1, 2, 3, 6]
    allowed[:] = False
    with pytest.raises(DataError, match="no item may be recommended"):
        retriever.propose(["u"], [history], 40, allowed=allowed)


def test_users_are_proposed_the_same_alone_and_together(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = people(9, 0.3)
    together = retriever.propose(crowd.users, crowd.histories, 15).places
    monkeypatch.setattr("trsr.fusion.retrieval._CELLS_A_BLOCK", 2 * ITEMS * 2)  # two users a block
    assert retriever.propose(crowd.users, crowd.histories, 15).places.tolist() == together.tolist()
    for at, user in enumerate(crowd.users):
        assert (
            retriever.propose([user], [crowd.histories[at]], 15).places[0].tolist() == together[at].tolist()
        )


def test_repeats_are_ranked_as_far_as_people_take_things_again(retriever: Retriever) -> None:
    shares = {}
    for repeating in (0.0, 0.8):
        crowd = people(120, repeating)
        fusion, *_ = learnt(crowd, retriever)
        new = people(40, repeating, seed=1)
        short = fusion.shortlist(retriever.propose(new.users, new.histories, 60))
        scores = fusion.full.score(short.read(np.full(short.places.shape, 0.5)))
        best = short.best(scores, 3)
        assert best.evidence.repeats is not None
        shares[repeating] = float((best.evidence.repeats > 0).mean())
    assert shares[0.0] == 0.0
    assert shares[0.8] > 0.9


def test_the_penalty_of_repeats_is_a_weight_that_can_be_read(retriever: Retriever) -> None:
    never, *_ = learnt(people(120, 0.0), retriever)
    often, *_ = learnt(people(120, 0.8), retriever)
    assert never.first.weights[REPEATED] < -0.5
    assert often.full.weights[REPEATED] > 0.5
    assert "popularity, drawn by it" not in often.full.weights


def test_chances_are_of_the_whole_catalogue(retriever: Retriever) -> None:
    """A list whose target is missing counts: all scores of a list sum to how often the target is in it."""
    crowd = people(200, 0.2)
    strange = np.array([place % 3 == 0 for place in range(200)])  # a third takes what nobody could foresee
    targets = np.where(strange, (crowd.targets + 1) % ITEMS, crowd.targets).astype(np.int32)
    fusion, places, _ = learnt(People(crowd.users, crowd.histories, targets), retriever, items=8)
    found = (places == targets[:, None]).any(axis=1).mean()
    assert found < 0.75
    short = fusion.shortlist(retriever.propose(crowd.users, crowd.histories, 24))
    total = fusion.full.score(short.read(np.full(short.places.shape, 0.5))).sum(axis=1).mean()
    assert total == pytest.approx(found, abs=0.1)


def test_targets_that_are_hardly_ever_retrieved_teach_nothing(retriever: Retriever) -> None:
    crowd = people(30, 0.0)
    far = np.full(30, 59, np.int32)  # of everybody's topics, the last
    with pytest.raises(DataError, match="with the target among the candidates"):
        learnt(
            People(crowd.users, crowd.histories, far), Retriever(SYSTEMS, COUNTS[::-1].copy(), ["tfidf"]), 2
        )


def test_what_was_learnt_is_kept(retriever: Retriever, tmp_path: Path) -> None:
    crowd = people(60, 0.3)
    fusion, *_ = learnt(crowd, retriever)
    assert CatalogueFusion.load(tmp_path, SYSTEMS, COUNTS) is None
    fusion.save(tmp_path)
    again = CatalogueFusion.load(tmp_path, SYSTEMS, COUNTS)
    assert again is not None
    assert (again.items, again.first, again.full) == (20, fusion.first, fusion.full)
    assert again.retriever.names == retriever.names
    with pytest.raises(ArtifactError, match="trsr evaluate"):
        CatalogueFusion.load(tmp_path, {"popularity": Counts()}, COUNTS)
    (tmp_path / "retrieval.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(ArtifactError, match="trsr evaluate"):
        CatalogueFusion.load(tmp_path, SYSTEMS, COUNTS)


def test_an_index_proposes_what_looking_at_everything_does(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    exact = Retriever({"tfidf": Topics()}, COUNTS, ["tfidf"])
    indexed = Retriever.indexed({"tfidf": Topics()}, COUNTS, ["tfidf"])
    crowd = people(20, 0.3)
    wanted = exact.propose(crowd.users, crowd.histories, 8).places
    assert indexed.propose(crowd.users, crowd.histories, 8).places.tolist() == wanted.tolist()
    # Where filters leave an index too little, everything is looked at.
    allowed = np.arange(ITEMS) >= 50
    few = [each.propose(crowd.users, crowd.histories, 6, allowed=allowed).places for each in (exact, indexed)]
    assert few[0].tolist() == few[1].tolist()


def test_systems_without_vectors_need_no_index() -> None:
    pytest.importorskip("usearch")
    from trsr.baselines.simple import Popularity  # noqa: PLC0415

    with pytest.raises(ConfigError, match="none of popularity has vectors"):
        Retriever.indexed({"popularity": Popularity()}, COUNTS, ["popularity"])


def test_new_items_of_a_history_reach_those_who_read_texts() -> None:
    from trsr.baselines.text import TextSimilarity  # noqa: PLC0415
    from trsr.baselines.training_data import TrainingData  # noqa: PLC0415

    words = ["saw", "tea", "lamp"]
    items = pl.DataFrame(
        {
            "item_id": [str(at) for at in range(9)],
            "title": [f"{words[at % 3]} number {at}" for at in range(9)],
        }
    )
    nobody = np.empty((0, 0), np.int32)
    system = TextSimilarity()
    system.fit(TrainingData(items, (), (), (), (), nobody, np.empty(0, np.int64)))
    texts = Retriever({"tfidf": system}, np.zeros(9, np.int64), ["tfidf"])
    new = pl.DataFrame({"title": ["tea"]})
    [places] = texts.propose(["u"], [np.array([9], np.int32)], 3, new_items=new).places
    assert {int(place) % 3 for place in places} == {1}
