import pytest

from trsr.config.data import AmazonReviewsData, DemoData, MicroLensData, MindData, TableData
from trsr.data.dataset import checked
from trsr.data.readers.registry import input_files, read
from trsr.errors import DataError


def test_demo_data_needs_no_files():
    source = DemoData(users=12, items=60)
    dataset, findings = read(source)
    assert checked(dataset).histories.height == 12
    assert findings == ()
    assert input_files(source) == ()


def test_input_files_are_those_that_are_read(write):
    folder = write({"titles.csv": "item,title\n1,A\n", "pairs.tsv": "u\t1\n", "readme.txt": ""})
    source = MicroLensData(format="microlens", path=folder)
    assert input_files(source) == (folder / "titles.csv", folder / "pairs.tsv")
    assert read(source)[0].items.height == 1


def test_missing_files_are_named_with_what_lies_there(write):
    folder = write({"news.tsv": ""})
    with pytest.raises(DataError, match=r"behaviors\.tsv: no such file \(in .* it holds news\.tsv\)"):
        read(MindData(format="mind", path=folder))
    with pytest.raises(DataError, match="there is no such folder"):
        read(MindData(format="mind", path=folder / "nowhere"))
    with pytest.raises(DataError, match=r"e\.csv: no such file"):
        read(TableData(format="tables", items=folder / "news.tsv", events=folder / "e.csv"))
    with pytest.raises(DataError, match=r"m\.jsonl.*r\.jsonl: no such file"):
        read(AmazonReviewsData(format="amazon_reviews", reviews=folder / "r.jsonl", meta=folder / "m.jsonl"))
