import ast
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.cleaning import ids_in_text, text_of_json, text_of_list


def ids(text):
    return pl.DataFrame({"text": [text]}).select(ids_in_text(pl.col("text"))).item()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['B1' 'B2'\n 'B3']", ["B1", "B2", "B3"]),
        ("['B1', 'B2']", ["B1", "B2"]),
        ('["a", "b c", 7]', ["a", "b c", "7"]),
        ('["caf\\u00e9"]', ["café"]),
        ("[400, 2151]", ["400", "2151"]),
        ("[]", []),
        ("", []),
        ("  7 8\t9 ", ["7", "8", "9"]),
        ("x, y,z", ["x", "y", "z"]),
        ("solo", ["solo"]),
        ("[[1, 2]]", None),
        ("[1, 2", None),
        ("['B1' ... 'B9']", None),
        ("['never closed]", None),
    ],
)
def test_ids_of_every_spelling(text, expected):
    read = ids(text)
    assert (None if read is None else list(read)) == expected


IDS = st.lists(st.text(st.sampled_from("AB09_-:é"), min_size=1, max_size=8), max_size=12)


@given(IDS)
def test_lists_as_numpy_json_and_python_write_them_are_read_back(written):
    assert list(ids(json.dumps(written))) == written
    assert list(ids(str(written))) == written
    if written:
        assert list(ids(str(np.array(written, dtype=object)))) == written


@given(st.lists(st.text(st.sampled_from("ab '\"\\,[]"), max_size=8), max_size=5))
def test_python_lists_of_texts_become_their_texts(texts):
    written = str(texts)
    assert ast.literal_eval(written) == texts
    read = pl.DataFrame({"text": [written]}).select(text_of_list(pl.col("text"))).item()
    assert read == " ".join(texts)


def test_unprintable_characters_of_python_lists_become_spaces():
    written = pl.DataFrame({"text": [str(["a\xa0b\tc"])]})
    assert written.select(text_of_list(pl.col("text"))).item() == "a b c"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8), min_size=1, max_size=4))
def test_any_json_object_becomes_text(details):
    frame = pl.DataFrame({"text": [json.dumps(details, ensure_ascii=False)]})
    text = frame.select(text_of_json(pl.col("text"), "; ")).item()
    assert text.count(": ") >= len(details)


def test_braces_inside_strings_stay():
    frame = pl.DataFrame({"text": ['["size {M}, \\"wide\\""]']})
    assert frame.select(text_of_json(pl.col("text"), " ")).item() == 'size {M}, "wide"'
