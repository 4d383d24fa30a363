import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trsr.interop.candidates import from_plain, to_plain


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=20))
def test_any_id_comes_back_and_is_one_field(ids: list[str]) -> None:
    plain = to_plain(pl.Series(ids, dtype=pl.String))
    assert from_plain(plain).to_list() == ids
    assert all(len(text.split()) == 1 and '"' not in text for text in plain)
