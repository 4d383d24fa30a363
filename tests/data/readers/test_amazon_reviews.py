import gzip
import json

import pytest

from trsr.config.data import AmazonReviewsData
from trsr.data.readers.registry import read
from trsr.errors import DataError

META = [
    {
        "parent_asin": "P1", "title": "Kettle", "store": "Acme", "main_category": "Home", "price": 19.5,
        "categories": ["Home", "Kitchen, Tea"], "features": ["Boils", "Whistles"], "description": [],
        "details": {"Colour": "red", "UPC": "1"}, "images": [{"thumb": "x"}],
    },
    {"parent_asin": "P2", "title": "Toaster", "store": None, "price": None},
]  # fmt: skip
REVIEWS = [
    {"user_id": "U", "parent_asin": "P2", "timestamp": 1588687729000, "rating": 5.0},
    {"user_id": "U", "parent_asin": "P1", "timestamp": 1588687728923, "rating": 2.0},
    {"user_id": "V", "parent_asin": "P1", "timestamp": 1588687728000, "rating": 4.0},
    {"user_id": "V", "parent_asin": "P1", "timestamp": 1588687728000, "rating": 4.0},
    {"user_id": "V", "parent_asin": "P9", "timestamp": 1588687728000, "rating": 4.0},
]


def source(write, meta=META, reviews=REVIEWS, pack=lambda data: data, **settings):
    def lines(rows):
        return pack("\n".join(json.dumps(row) for row in rows).encode())

    folder = write({"meta_X.jsonl": lines(meta), "X.jsonl": lines(reviews)})
    paths = {"meta": folder / "meta_X.jsonl", "reviews": folder / "X.jsonl"}
    return AmazonReviewsData(format="amazon_reviews", **paths, **settings)


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_reviews_become_histories_in_order_of_time(write, counts_of, pack):
    dataset, findings = read(source(write, pack=pack))
    assert dataset.histories.rows() == [
        ("U", ["P1", "P2"], [1588687728, 1588687729]),
        ("V", ["P1"], [1588687728]),
    ]
    assert dataset.items.row(0, named=True) == {
        "item_id": "P1", "title": "Kettle", "store": "Acme", "main_category": "Home",
        "categories": "Home, Kitchen, Tea", "price": "19.5", "features": "Boils Whistles", "description": "",
        "details": "Colour: red; UPC: 1",
    }  # fmt: skip
    assert dataset.items.row(1)[1:] == ("Toaster", "", "", "", "", "", "", "")
    assert counts_of(findings) == {
        "unknown-item": 1,
        "unknown-id": 1,
        "duplicate-event": 1,
        "unsorted-times": 1,
    }


def test_low_ratings_are_no_interactions(write, histories_of, counts_of):
    unrated = {"user_id": "V", "parent_asin": "P2", "timestamp": 1588687729000}
    dataset, findings = read(source(write, reviews=[*REVIEWS, unrated], min_rating=4))
    assert histories_of(dataset) == {"U": ["P2"], "V": ["P1"]}
    assert counts_of(findings)["low-rating"] == 1
    assert counts_of(findings)["bad-row"] == 1


def test_files_of_another_format_are_refused(write):
    with pytest.raises(DataError, match="no line has the key 'parent_asin'"):
        read(source(write, meta=[{"asin": "P1"}]))
    with pytest.raises(DataError, match="one object a line"):
        read(source(write, reviews=[]))


def test_a_packed_file_that_was_cut_short_is_refused(write):
    with pytest.raises(DataError, match="cut short or damaged"):
        read(source(write, pack=lambda data: gzip.compress(data)[:-9]))


def test_null_words_and_html_leave_texts_lists_and_times(write, counts_of):
    meta = [
        {"parent_asin": "P1", "title": "<b>Kettle</b>", "store": "None", "categories": ["None", "Tea"],
         "details": {"Brand": None, "Colour": "red"}},
        {"parent_asin": "P2", "title": "Cup &amp; saucer"},
    ]  # fmt: skip
    rows = [{"user_id": "U", "parent_asin": "P1", "timestamp": time, "rating": 4} for time in ("NaN", 1000)]
    rows.append({"user_id": "null", "parent_asin": "P2", "timestamp": 1000, "rating": 4})
    dataset, findings = read(source(write, meta=meta, reviews=rows))
    shown = dataset.items.select("title", "store", "categories", "details").rows()
    assert shown == [("Kettle", "", "Tea", "Colour: red"), ("Cup & saucer", "", "", "")]
    assert dataset.histories.select("user_id", "item_ids").rows() == [("U", ["P1"])]
    counted = counts_of(findings)
    assert (counted["null-word"], counted["html"], counted["missing-id"]) == (5, 2, 1)
