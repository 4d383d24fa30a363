"""Whatever stands in the files of any format: a data set that keeps its rules, or an error of ours."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trsr.data.dataset import checked
from trsr.data.readers.registry import detect, read
from trsr.errors import TrsrError

FILES = {
    "mind": {
        "news.tsv": b"N1\tc\ts\tTitle\tText\tu\t[]\t[]\n",
        "behaviors.tsv": b"1\tU\t11/12/2019 2:14:46 PM\tN1 N1\tN1-1 N2-0\n",
    },
    "movielens": {"u.item": b"1|A|||" + b"|0" * 19 + b"\n", "u.data": b"u\t1\t5\t9\n"},
    "recbole": {
        "x.item": b"item_id:token\ttitle:token_seq\tprice:float\n1\tA b\t9.5\n",
        "x.inter": b"user_id:token\titem_id_list:token_seq\titem_id:token\nu\t1 1\t1\n",
    },
    "sequences": {"items.csv": b"item_id,title\n1,A\n", "sequences.txt": b"u 1 1\n"},
    "microlens": {"titles.csv": b"item,title\n1,A\n", "pairs.tsv": b"u\t1 1\n"},
    "amazon_m2": {
        "products_train.csv": b"id,locale,title,price,brand,color,size,model,material,author,desc\n"
        b"B1,UK,A,,,,,,,,\n",
        "sessions_train.csv": b"prev_items,next_item,locale\n\"['B1'\n 'B1']\",B1,UK\n",
    },
    "amazon_5core": {
        "items.json": b'{"1": {"title": "A", "description": "[\'x\']"}}',
        "test.csv": b'user_id,history_item_id,item_id\nu,"[1, 1]",1\nu,"[1, 1, 1]",1\n',
    },
    "amazon_reviews": {
        "meta_X.jsonl": b'{"parent_asin": "P", "title": "A", "features": ["x"], "details": {"k": "v"}}\n',
        "X.jsonl": b'{"user_id": "u", "parent_asin": "P", "timestamp": 1588687728000, "rating": 4.0}\n',
    },
}
PIECES = [
    b'"', b'""', b"'", b",", b"\t", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"[", b"]",
    b"{", b"}", b":",
    b"\\",
    b"\\ud800", b"N1", b"-1", b"1", b"1e400", b"null", b" ", "é".encode(), b"\x1f\x8b", b"B1", b"UK",
]  # fmt: skip
EDIT = st.tuples(
    st.integers(0, 1), st.floats(0, 1), st.integers(0, 4), st.lists(st.sampled_from(PIECES), max_size=4)
)


@pytest.mark.parametrize("name", FILES)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(edits=st.lists(EDIT, max_size=5))
def test_edited_files_end_in_a_data_set_or_an_error_of_ours(tmp_path_factory, name, edits):
    folder = tmp_path_factory.mktemp(name)
    contents = list(FILES[name].values())
    for which, share, cut, pieces in edits:
        place = round(share * len(contents[which]))
        contents[which] = contents[which][:place] + b"".join(pieces) + contents[which][place + cut :]
    for file, content in zip(FILES[name], contents, strict=True):
        (folder / file).write_bytes(content)
    try:
        dataset, findings = read(detect(folder))
    except TrsrError:
        return
    assert checked(dataset).histories.height >= 1
    assert all(finding.count > 0 and finding.message for finding in findings)


@pytest.mark.parametrize("name", FILES)
def test_unedited_files_are_read_without_loss(tmp_path, name):
    for file, content in FILES[name].items():
        (tmp_path / file).write_bytes(content)
    dataset, findings = read(detect(tmp_path))
    assert (dataset.items.height, dataset.histories.height) == (1, 1)
    assert [finding.rule for finding in findings if finding.rule != "absent-file"] == []
