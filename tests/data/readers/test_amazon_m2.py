import pytest

from trsr.config.data import AmazonM2Data
from trsr.data.readers.registry import read
from trsr.errors import DataError

PRODUCTS = (
    "id,locale,title,price,brand,color,size,model,material,author,desc\n"
    'B1,UK,"Kettle, 1.7 ""l""",19.99,Acme,red,,K1,steel,,"Boils\nwater"\n'
    "B2,UK,Toaster,25,Acme,,,,,,\n"
    "B3,UK,Spoon,1,,,,,,,\n"
    "B1,DE,Kessel,19.99,Acme,rot,,,,,\n"
)
SESSIONS = (
    "prev_items,next_item,locale\n"
    "\"['B1' 'B2'\n 'B1']\",B3,UK\n"
    "['B1'],B9,DE\n"
    "\"['B2' 'B9']\",B1,UK\n"
    '"broken ]",B1,UK\n'
    '"[[]",B1,UK\n'
)


def read_files(write, locale="UK", **files):
    content = {"products_train.csv": PRODUCTS, "sessions_train.csv": SESSIONS} | {
        name.replace("__", "."): text for name, text in files.items()
    }
    return read(AmazonM2Data(format="amazon_m2", path=write(content), locale=locale))


def test_sessions_of_one_locale_become_users(write, histories_of, counts_of):
    dataset, findings = read_files(write)
    assert histories_of(dataset) == {
        "sessions_train:2": ["B1", "B2", "B1", "B3"],
        "sessions_train:5": ["B2", "B1"],
        "sessions_train:6": ["B1"],
    }
    assert dataset.items.row(0, named=True) == {
        "item_id": "B1", "title": 'Kettle, 1.7 "l"', "brand": "Acme", "price": "19.99",
        "color": "red", "size": "",
        "model": "K1", "material": "steel", "author": "", "desc": "Boils\nwater",
    }  # fmt: skip
    assert dataset.histories["times"].null_count() == 3
    # Unknown: B9 once, and the two words of "broken ]".
    assert counts_of(findings) == {"other-locale": 2, "bad-row": 1, "unknown-item": 3, "unknown-id": 3}
    bad = next(finding for finding in findings if finding.rule == "bad-row")
    assert bad.examples == ("sessions_train.csv:7: [[]",)


def test_the_other_locale(write, histories_of):
    dataset, _ = read_files(write, locale="DE")
    assert histories_of(dataset) == {"sessions_train:4": ["B1"]}
    assert dataset.items["title"].to_list() == ["Kessel"]


def test_test_sessions_without_next_item_are_noted(write, counts_of):
    dataset, findings = read_files(write, sessions_test_task1__csv="prev_items,locale\n['B1'],UK\n")
    assert dataset.histories.height == 3
    assert counts_of(findings)["no-next-item"] == 1


def test_refusals_name_the_next_step(write):
    with pytest.raises(DataError, match="no products of locale 'FR'; set `locale`"):
        read_files(write, locale="FR")
    with pytest.raises(DataError, match=r"no column 'desc'; the columns are 'id', 'locale'"):
        read_files(write, products_train__csv=PRODUCTS.replace(",desc", ",text"))


def test_a_folder_without_sessions_is_refused(write):
    with pytest.raises(DataError, match=r"no file sessions_\*.csv"):
        read(AmazonM2Data(format="amazon_m2", path=write({"products_train.csv": PRODUCTS})))
