from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trsr.compact.model import start_embeddings, token_vectors

LINES = [[0, 1], [0, 2], [3, 4], [3, 5], [6], [7]]
"""Tokens 0 to 2 stand together, 3 to 5 do, and 6 and 7 stand alone."""


def likeness(vectors: np.ndarray, one: int, other: int) -> float:
    norms = np.linalg.norm(vectors[one]) * np.linalg.norm(vectors[other])
    return float(vectors[one] @ vectors[other] / norms)


def test_words_of_the_same_texts_are_near() -> None:
    vectors = token_vectors(LINES, LINES, [], vocabulary=9, width=4)
    assert vectors.shape == (9, 4)
    assert likeness(vectors, 1, 2) > 0.5 > abs(likeness(vectors, 1, 4))
    assert not vectors[8].any(), "a token without any line has no vector"


def test_words_of_items_that_follow_each_other_are_near_though_no_text_has_both() -> None:
    apart = token_vectors(LINES, LINES, [], vocabulary=8, width=6)
    together = token_vectors(LINES, LINES, [[4, 5], [5, 4]], vocabulary=8, width=6)
    assert abs(likeness(apart, 6, 7)) < 0.1
    assert likeness(together, 6, 7) > 0.3


def test_other_fields_bring_words_together() -> None:
    texts = [*LINES[:4], [6, 8], [7, 8]]
    apart = token_vectors(LINES, LINES, [], vocabulary=9, width=6)
    together = token_vectors(LINES, texts, [], vocabulary=9, width=6)
    assert likeness(together, 6, 7) > likeness(apart, 6, 7) + 0.1


def test_rare_words_speak_louder() -> None:
    lines = [[0, number] for number in range(1, 40)]
    lengths = np.linalg.norm(token_vectors(lines, lines, [], 40, 40), axis=1)
    assert lengths[1:].min() > 2 * lengths[0]


@pytest.mark.parametrize("width", [2, 64])
def test_any_width_will_do(width: int) -> None:
    vectors = token_vectors(LINES, LINES, [[0, 1]], vocabulary=8, width=width)
    assert vectors.shape == (8, width)
    assert np.isfinite(vectors).all()


def test_nothing_to_learn_from_gives_zeros() -> None:
    assert not token_vectors([[], []], [[], []], [[0, 1]], vocabulary=3, width=2).any()


def test_vectors_become_embeddings_at_one_scale_and_others_stay() -> None:
    embedding = nn.Embedding(9, 4)
    before = embedding.weight.detach().clone()
    vectors = token_vectors(LINES, LINES, [], vocabulary=9, width=4)
    start_embeddings(embedding, vectors)
    after = embedding.weight.detach()
    assert torch.equal(after[8], before[8])
    assert after[:8].pow(2).mean().sqrt().item() == pytest.approx(0.05, rel=1e-5)
    ratio = after[:8].numpy()[np.abs(vectors[:8]) > 1e-6] / vectors[:8][np.abs(vectors[:8]) > 1e-6]
    assert ratio == pytest.approx(np.full_like(ratio, ratio[0]), rel=1e-3)
    start_embeddings(embedding, np.zeros((9, 4), np.float32))
    assert torch.equal(embedding.weight.detach(), after)
