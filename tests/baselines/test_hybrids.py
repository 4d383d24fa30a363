import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from topical_shop import N_ITEMS, sessions, topical

from trsr.baselines.base import Baseline, open_baseline
from trsr.baselines.hybrids import Ensemble, FrequentFirst, PopularitySwitch
from trsr.baselines.training_data import Places, TrainingData
from trsr.baselines.validation import Validation
from trsr.errors import ArtifactError, DataError

BOTH = {"first": "llmseqsim(encoder='lsa(width=32)')", "second": "itemknn"}
HISTORIES = [taken[:-1] for taken in sessions(6, seed=5)]
USERS = [f"u{number}" for number in range(6)]


@cache
def data() -> TrainingData:
    return topical(users=200, valid_users=40)


@cache
def alone(name: str) -> Baseline:
    system = open_baseline(name, seed=0)
    system.fit(data())
    return system


def listed(system: Baseline, history: Places) -> list[int]:
    """Items by falling score, without the history; ties by place."""
    scores = system.score(["u"], [history])[0]
    scores[history] = -np.inf
    return np.argsort(-scores, kind="stable")[: N_ITEMS - len(set(history))].tolist()


def test_the_head_of_one_list_stands_before_the_other() -> None:
    system = Ensemble(**BOTH, threshold=3)
    system.fit(data())
    for history in HISTORIES:
        first, second = (listed(alone(name), history) for name in BOTH.values())
        expected = first[:3] + [item for item in second if item not in first[:3]]
        assert listed(system, history)[:40] == expected[:40]


def test_what_is_sure_enough_stands_before_the_other() -> None:
    system = Ensemble(**BOTH, by="confidence", threshold=0.9)
    system.fit(data())
    for history in HISTORIES:
        scores = alone(BOTH["first"]).score(["u"], [history])[0]
        first, second = (listed(alone(name), history) for name in BOTH.values())
        sure = [item for item in first if scores[item] >= 0.9]
        assert listed(system, history)[:60] == (sure + [item for item in second if item not in sure])[:60]


def test_the_newest_item_says_who_is_asked() -> None:
    system = PopularitySwitch(**BOTH, threshold=0.5)
    system.fit(data())
    counts = data().counts
    middle = np.quantile(counts[counts > 0], 0.5)
    asked = {}
    for history in HISTORIES:
        popular = bool(counts[history[-1]] >= middle)
        asked[popular] = listed(alone(BOTH["second" if popular else "first"]), history)
        assert listed(system, history)[:50] == asked[popular][:50]
    assert set(asked) == {True, False}
    nothing = np.empty(0, np.int32)
    assert listed(system, nothing) == listed(alone("itemknn"), nothing)


def test_rare_items_go_behind_the_others_of_the_best() -> None:
    system = FrequentFirst(first=BOTH["first"], threshold=0.75, among=20)
    system.fit(data())
    counts = data().counts
    least = np.quantile(counts[counts > 0], 0.75)
    for history in HISTORIES:
        best = listed(alone(BOTH["first"]), history)
        frequent = [item for item in best[:20] if counts[item] >= least]
        rare = [item for item in best[:20] if counts[item] < least]
        assert listed(system, history)[:60] == (frequent + rare + best[20:])[:60]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Ensemble, BOTH),
        (Ensemble, BOTH | {"by": "confidence"}),
        (PopularitySwitch, BOTH),
        (FrequentFirst, {"first": BOTH["first"]}),
    ],
)
def test_the_threshold_is_the_best_on_validation_and_asks_nobody_else(
    kind: type[Ensemble], settings: dict[str, str], tmp_path: Path
) -> None:
    system = kind(**settings)
    system.fit(data())
    validation = Validation(data())

    def figure(threshold: float) -> float:
        other = kind(**settings, threshold=threshold)
        other.join(system._systems, data())
        return validation(lambda histories, asked: other.score([""] * len(histories), histories, asked))

    found = system._evidence(USERS, HISTORIES, None)
    tried = system.choices(system._evidence(data().valid_users, validation.histories, validation.offered))
    assert figure(system._threshold) == pytest.approx(max(map(figure, tried)))
    assert f"threshold {system._threshold:.3g}, by NDCG@10 of 40 validation users" in system.notes[0]
    # Candidates get the places that they have in the catalogue.
    whole = system.score(USERS, HISTORIES)
    asked = np.random.default_rng(0).integers(0, N_ITEMS, (6, 21)).astype(np.int32)
    assert np.array_equal(system.score(USERS, HISTORIES, asked), np.take_along_axis(whole, asked, axis=1))
    assert np.array_equal(whole, system.order(found, system._threshold))
    utilities = system.utilities(whole)
    assert np.isfinite(utilities).all()
    assert np.array_equal(np.argsort(utilities[0], kind="stable"), np.argsort(whole[0], kind="stable"))
    system.save(tmp_path)
    loaded = kind(**settings)
    loaded.restore(tmp_path)
    assert np.array_equal(loaded.score(USERS, HISTORIES), whole)
    with pytest.raises(ArtifactError):
        kind(**settings).restore(tmp_path / "nowhere")


def test_popularity_is_that_of_training_alone() -> None:
    system = PopularitySwitch(**BOTH, threshold=0.5)
    system.fit(data())
    spiked = dataclasses.replace(
        data(), valid_histories=tuple(np.zeros(7, np.int32) for _ in data().valid_histories)
    )
    other = PopularitySwitch(**BOTH, threshold=0.5)
    other.fit(spiked)
    assert np.array_equal(system.score(USERS, HISTORIES), other.score(USERS, HISTORIES))


def test_without_validation_users_a_threshold_must_be_given() -> None:
    nobody = dataclasses.replace(data(), valid_histories=(), valid_users=())
    with pytest.raises(DataError, match="popularity_switch chooses its threshold by validation users"):
        PopularitySwitch(**BOTH).fit(nobody)


def test_systems_that_take_part_anyway_are_not_trained_again() -> None:
    system = Ensemble(**BOTH)
    parts = [alone(name) for name in system.parts]
    system.join(parts, data())
    fitted = Ensemble(**BOTH)
    fitted.fit(data())
    assert system._systems == parts
    assert np.array_equal(system.score(USERS, HISTORIES), fitted.score(USERS, HISTORIES))


def test_what_was_taken_before_has_a_place_of_its_own_and_moves_no_other() -> None:
    system = Ensemble(**BOTH, threshold=0)
    system.fit(data())
    history = HISTORIES[0]
    whole = system.score(["u"], [history])[0]
    own = alone("itemknn").score(["u"], [history])[0]
    outside = np.setdiff1d(np.arange(N_ITEMS), history)
    for item in history:
        above, tied = (own[outside] > own[item]).sum(), (own[outside] == own[item]).sum()
        assert whole[item] == -(N_ITEMS + above + 0.5 + tied / 2)
    order = np.argsort(-own[outside], kind="stable")
    assert (np.diff(whole[outside][order]) <= 0).all()
