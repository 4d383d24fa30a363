import numpy as np
import pytest
from baselines_shop import row
from scipy import sparse

from trsr.baselines import base as profiles
from trsr.baselines.base import history_rows, products


def test_working_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    users, items = (
        sparse.csr_array(draw.random((size, 5)) * draw.integers(0, 2, (size, 5))) for size in (4, 6)
    )
    candidates = draw.integers(0, 6, (4, 3)).astype(np.int32)
    turned = sparse.csr_array(items.T)
    whole = products(users, items, None, turned)
    monkeypatch.setattr(profiles, "_PAIRS_A_CHUNK", 5)
    some = products(users, items, candidates, turned)
    assert np.allclose(some, np.take_along_axis(whole, candidates.astype(np.int64), axis=1))


def test_nobody_and_nothing_taken_make_empty_rows() -> None:
    assert history_rows([], 3).shape == (0, 3)
    assert history_rows([row(), row(1)], 3).toarray().tolist() == [[0, 0, 0], [0, 1, 0]]
