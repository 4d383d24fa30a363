import json
from pathlib import Path

import numpy as np
import pytest
from planted_scores import planted

from trsr.errors import ArtifactError, DataError
from trsr.evaluation.metrics import expected_metrics, metrics_at, place_target
from trsr.fusion.features import Evidence
from trsr.fusion.fusion import LEAST_USERS, Fusion, cross_fit, fit_fusion, too_few


def recall(scores: np.ndarray, targets: np.ndarray) -> float:
    return float(
        expected_metrics(*place_target(scores, targets), scores.shape[1] - 1, metrics_at([3]))[
            "Recall@3"
        ].mean()
    )


def test_the_whole_is_more_than_its_best_part() -> None:
    evidence, targets, users = planted()
    fusion = fit_fusion(evidence, targets, users)
    unseen, their_targets, _ = planted(seed=1)
    best = max(recall(table, their_targets) for table in unseen.scores.values())
    assert recall(fusion.score(unseen), their_targets) > best + 0.1


def test_planted_weights_are_found_in_units_of_spread() -> None:
    fusion = fit_fusion(*planted(users=3000))
    # Network and text are of spread 1 where they mean something.
    assert fusion.weights["sasrec"] == pytest.approx(1.5, abs=0.1)
    assert fusion.weights["language_model"] == pytest.approx(1.0, abs=0.1)


def test_a_cold_item_falls_back_on_its_text() -> None:
    evidence, targets, users = planted()
    fusion = fit_fusion(evidence, targets, users)
    shape = (1, 3)
    scores = {"language_model": np.array([[0.2, 0.5, 0.8]]), "popularity": np.zeros(shape)}
    nobody = np.zeros(shape, np.int64)
    for network in (np.array([[9.0, 0.0, -9.0]]), np.array([[-9.0, 0.0, 9.0]])):
        chances = fusion.score(
            Evidence(scores | {"sasrec": network}, nobody, evidence.drawn_by_popularity[:1])
        )[0]
        assert (np.diff(chances) > 0).all()


def test_a_useless_system_is_left_aside() -> None:
    evidence, targets, users = planted()
    noise = {"gru4rec": np.random.default_rng(9).normal(size=evidence.counts.shape)}
    more = Evidence(evidence.scores | noise, evidence.counts, evidence.drawn_by_popularity)
    fusion = fit_fusion(more, targets, users)
    assert abs(fusion.weights["gru4rec"]) < 0.15 * fusion.weights["sasrec"]


def test_chances_are_those_of_the_world() -> None:
    fusion = fit_fusion(*planted(users=1000))
    unseen, targets, _ = planted(users=2000, seed=1)
    chances = fusion.score(unseen)
    assert chances.sum(axis=1).mean() == pytest.approx(1, abs=0.05)
    is_target = np.arange(21) == targets[:, None]
    for low, high in ((0.0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1.0)):
        band = (chances >= low) & (chances < high)
        assert is_target[band].mean() == pytest.approx(chances[band].mean(), abs=0.05)


def test_shuffled_rows_and_candidates_give_the_same_chances() -> None:
    evidence, targets, users = planted()
    order = np.random.default_rng(3).permutation(len(users))
    turned = Evidence(
        {name: table[order][:, ::-1] for name, table in evidence.scores.items()},
        evidence.counts[order][:, ::-1],
        evidence.drawn_by_popularity[order],
    )
    first = fit_fusion(evidence, targets, users).score(evidence)
    second = fit_fusion(turned, 20 - targets[order], [users[place] for place in order]).score(turned)
    assert second[:, ::-1] == pytest.approx(first[order], abs=1e-4)


def test_cross_fitted_chances_know_nothing_of_the_users_own_target() -> None:
    evidence, targets, users = planted(users=60)
    noise = Evidence(
        {"sasrec": np.random.default_rng(5).normal(size=evidence.counts.shape)},
        evidence.counts + 1,
        evidence.drawn_by_popularity,
    )
    honest = cross_fit(noise, targets, users)
    for user in (0, 7):
        moved = targets.copy()
        moved[user] = (targets[user] + 5) % 21
        assert np.array_equal(cross_fit(noise, moved, users)[user], honest[user])


def test_lists_of_two_samplers_of_one_user_stay_in_one_fold() -> None:
    evidence, targets, users = planted(users=40)
    twice = Evidence(
        {name: np.concatenate([table, table]) for name, table in evidence.scores.items()},
        np.concatenate([evidence.counts] * 2),
        np.repeat([False, True], len(users)),
    )
    moved = np.concatenate([targets, targets])
    moved[[0, 40]] = (targets[0] + 5) % 21
    first = cross_fit(twice, np.concatenate([targets, targets]), users * 2)
    assert np.array_equal(cross_fit(twice, moved, users * 2)[[0, 40]], first[[0, 40]])


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    evidence, targets, users = planted(users=50)
    fusion = fit_fusion(evidence, targets, users)
    fusion.save(tmp_path / "fusion.json")
    loaded = Fusion.load(tmp_path / "fusion.json")
    assert loaded == fusion
    assert np.array_equal(loaded.score(evidence), fusion.score(evidence))


@pytest.mark.parametrize("change", [{"format": 0}, {"weights": {}}, {"scales": None}, {"calibration": {}}])
def test_a_damaged_file_is_told(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "fusion.json"
    fit_fusion(*planted(users=20)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match="not a fused ranker"):
        Fusion.load(path)
    with pytest.raises(ArtifactError, match="not a fused ranker"):
        Fusion.load(tmp_path / "nowhere.json")


def test_missing_scores_and_too_few_users_are_told() -> None:
    evidence, targets, users = planted(users=20)
    with pytest.raises(DataError, match="got none of sasrec"):
        fit_fusion(evidence, targets, users).score(
            Evidence(
                {"language_model": evidence.scores["language_model"]},
                evidence.counts,
                evidence.drawn_by_popularity,
            )
        )
    few = np.arange(20) < 9
    with pytest.raises(DataError, match="at least 10 validation users, got 9"):
        fit_fusion(evidence.rows(few), targets[few], users[:9])


@pytest.mark.parametrize("count", range(8, 16))
def test_who_is_enough_for_a_fusion_is_enough_for_its_cross_fit(count: int) -> None:
    evidence, targets, users = planted(users=count)
    if too_few(count):
        assert count < LEAST_USERS
        with pytest.raises(DataError, match=r"got \d"):
            cross_fit(evidence, targets, users)
    else:
        assert np.isfinite(cross_fit(evidence, targets, users)).all()


def test_the_calibration_is_of_users_whom_the_weights_never_saw() -> None:
    """Twelve systems that know nothing, and few users: weights find in each user what isn't there."""
    draw = np.random.default_rng(2)
    shape = (30, 21)

    def nothing(rows: int) -> Evidence:
        scores = {f"ncf(width={number})": draw.normal(size=(rows, 21)) for number in range(12)}
        return Evidence(scores, np.ones((rows, 21), np.int64), np.zeros(rows, dtype=bool))

    learnt_from, targets = nothing(shape[0]), draw.integers(0, 21, shape[0])
    fusion = fit_fusion(learnt_from, targets, [f"u{number}" for number in range(shape[0])])
    # In the sample the weights win; what they say of anybody else must stay near 1 in 21.
    assert recall(fusion.score(learnt_from), targets) > 1.5 * 3 / 21
    unseen = fusion.score(nothing(500))
    assert unseen.mean() == pytest.approx(1 / 21, abs=0.01)
    assert np.quantile(unseen, 0.99) < 1.2 / 21


def test_equal_evidence_ties_to_the_last_bit() -> None:
    draw = np.random.default_rng(0)
    scores = {f"ncf(width={number})": draw.normal(size=(40, 21)) for number in range(11)}
    for table in scores.values():
        table[:, [13, 20]] = table[:, [0]]
    evidence = Evidence(scores, np.ones((40, 21), np.int64), np.zeros(40, dtype=bool))
    fusion = fit_fusion(evidence, draw.integers(0, 21, 40), [f"u{number}" for number in range(40)])
    assert np.ptp(fusion.score(evidence)[:, [0, 13, 20]], axis=1).tolist() == [0.0] * 40
