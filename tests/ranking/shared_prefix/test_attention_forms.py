"""The two forms of candidates' attention, against softmax written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trsr.ranking.shared_prefix.attention import _attend, _Row, cascade, gridded
from trsr.ranking.shared_prefix.layout import Fold, Layout

CPU = torch.device("cpu")
SCALE = 0.3
LENGTHS = [(4, 4, 4), (2, 5, 1), (1,), (7,)]


def tensors(prefix: int, queries: int, own: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """A query of four heads, and keys and values of two heads, first far, then near."""
    generator = torch.Generator().manual_seed(prefix + 10 * own)
    shapes = [(4, queries), (2, prefix), (2, prefix), (2, own), (2, own)]
    drawn = [torch.randn(1, heads, tokens, 8, generator=generator, dtype=dtype) for heads, tokens in shapes]
    return [tensor.requires_grad_() for tensor in drawn]


def written_out(
    parts: list[Tensor], lengths: tuple[int, ...], *, at_ends: bool, window: int | None
) -> Tensor:
    """Each query alone: softmax over the keys that its position and its run let it see."""
    query, far_key, far_value, near_key, near_value = (part[0] for part in parts)
    prefix = far_key.shape[1]
    outputs = []
    start = 0
    for length in lengths:
        for step in [length - 1] if at_ends else range(length):
            keys = torch.cat([far_key, near_key[:, start : start + step + 1]], 1)
            values = torch.cat([far_value, near_value[:, start : start + step + 1]], 1)
            first = 0 if window is None else max(0, prefix + step + 1 - window)
            keys, values = keys[:, first:].repeat_interleave(2, 0), values[:, first:].repeat_interleave(2, 0)
            weights = (query[:, len(outputs), None] * keys).sum(-1).mul(SCALE).softmax(-1)
            outputs.append((weights[..., None] * values).sum(1))
        start += length
    return torch.stack(outputs, 1)[None]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("prefix", [0, 1, 6])
@pytest.mark.parametrize("at_ends", [False, True])
@pytest.mark.parametrize("form", ["cascade", "grid", "window 1", "window 3", "window 6", "window 40"])
def test_values_and_gradients(lengths: tuple[int, ...], prefix: int, at_ends: bool, form: str) -> None:
    keys = Fold(lengths, CPU)
    queries = Fold((1,) * len(lengths), CPU) if at_ends else keys
    window = int(form.split()[1]) if form.startswith("window") else None
    parts = tensors(prefix, sum(queries.lengths), sum(lengths))
    query, far_key, far_value, near_key, near_value = parts
    if form == "cascade":
        got = cascade(query, (far_key, far_value), (near_key, near_value), queries, keys, SCALE)
    else:
        row = _Row(near_key, near_value, SCALE, window, 0.0, (far_key, far_value))
        layout = Layout.of([(prefix, lengths)], CPU, is_held=True)
        got = gridded(query, row, layout, window, at_answers=at_ends)
    expected = written_out(parts, lengths, at_ends=at_ends, window=window)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=got.dtype)
    for got_grad, expected_grad in zip(
        torch.autograd.grad((got * weights).sum(), parts, materialize_grads=True),
        torch.autograd.grad((expected * weights).sum(), parts, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got_grad, expected_grad)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_prefix_on_itself(window: int | None) -> None:
    parts = tensors(0, 9, 9)
    query, _, _, key, value = parts
    # The last token stands for a candidate: a prefix alone is no row.
    got = _attend(
        query, _Row(key, value, SCALE, window, 0.0, None), Layout.of([(8, [1])], CPU), at_answers=False
    )
    torch.testing.assert_close(got, written_out(parts, (9,), at_ends=False, window=window))


@pytest.mark.parametrize("at_answers", [False, True])
def test_one_product_for_all_users_is_what_each_user_alone_gives(at_answers: bool) -> None:
    layout = Layout.of([(3, [2, 4]), (0, [1, 1, 5]), (6, [3])], CPU)
    queries = 6 if at_answers else layout.tokens
    query, _, _, key, value = tensors(0, queries, layout.tokens)
    row = _Row(key, value, SCALE, None, 0.0, None)
    alone = _attend(query, row, layout, at_answers=at_answers)
    together = gridded(query, row, layout, None, at_answers=at_answers)
    torch.testing.assert_close(together, alone)
    weights = torch.randn(alone.shape, generator=torch.Generator().manual_seed(1), dtype=alone.dtype)
    for got, expected in zip(
        torch.autograd.grad((together * weights).sum(), (query, key, value)),
        torch.autograd.grad((alone * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_very_unequal_sums_stay_finite() -> None:
    query, far_key, far_value, near_key, near_value = tensors(5, 4, 4, torch.float32)
    fold = Fold((2, 2), CPU)
    with torch.no_grad():
        out = cascade(query * 100, (far_key * 30, far_value), (near_key, near_value), fold, fold, SCALE)
    assert out.isfinite().all()
