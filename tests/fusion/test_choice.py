import numpy as np
import pytest

from trsr.fusion.fusion import PENALTIES, choice_losses, choose_penalty, fit_weights


def drawn(users: int, weights: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    columns = draw.normal(size=(users, 21, len(weights)))
    return columns, (columns @ weights + draw.gumbel(size=(users, 21))).argmax(axis=1)


def test_losses_by_hand() -> None:
    columns = np.array([[[1.0], [0.0], [0.0]]])
    losses = choice_losses(columns, np.array([0]), np.array([np.log(2)]))
    assert losses == pytest.approx([-np.log(2 / 4)])


def test_planted_weights_are_found() -> None:
    columns, targets = drawn(5000, [1.0, -0.5, 0.0])
    assert fit_weights(columns, targets, 1e-6) == pytest.approx([1.0, -0.5, 0.0], abs=0.06)


def test_weights_that_must_rise_stop_at_zero_and_the_others_make_do() -> None:
    columns, targets = drawn(2000, [1.0, -0.5])
    held = fit_weights(columns, targets, 1e-6, [True, True])
    assert held[1] == 0
    assert held[0] == pytest.approx(fit_weights(columns[..., :1], targets, 1e-6)[0], abs=1e-3)


def test_the_answer_does_not_depend_on_the_order_of_users_and_candidates() -> None:
    columns, targets = drawn(200, [1.0, 0.3])
    turned = fit_weights(columns[::-1, ::-1], 20 - targets[::-1], 0.01)
    assert turned == pytest.approx(fit_weights(columns, targets, 0.01), abs=1e-4)


def test_a_stronger_penalty_gives_shorter_weights() -> None:
    columns, targets = drawn(100, [1.0, 1.0])
    lengths = [np.linalg.norm(fit_weights(columns, targets, penalty)) for penalty in PENALTIES]
    assert lengths == sorted(lengths, reverse=True)


def test_noise_asks_for_more_penalty_than_signal() -> None:
    folds = np.arange(60) % 5
    noise = choose_penalty(*drawn(60, [0.0] * 8), folds)
    signal = choose_penalty(*drawn(60, [2.0] * 8), folds)
    assert noise > signal
