import pytest

from trsr.config.data import (
    Amazon5CoreData,
    AmazonM2Data,
    AmazonReviewsData,
    DemoData,
    MicroLensData,
    MindData,
    MovieLensData,
    RecBoleData,
    SequenceData,
    TableData,
)
from trsr.data.readers.registry import detect
from trsr.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("news.tsv", "behaviors.tsv"), MindData),
        (("pairs.tsv", "titles.csv"), MicroLensData),
        (("items.json", "test.csv"), Amazon5CoreData),
        (("products_train.csv", "sessions_train.csv"), AmazonM2Data),
        (("meta_X.jsonl.gz", "X.jsonl"), AmazonReviewsData),
        (("u.item", "u.data"), MovieLensData),
        (("movies.csv", "u1.base"), MovieLensData),
        (("movies.dat", "ratings.dat"), MovieLensData),
        (("movies.csv", "ratings.csv"), MovieLensData),
        (("x.item", "x.inter"), RecBoleData),
        (("x.item", "x.test.inter"), RecBoleData),
    ],
)
def test_formats_are_known_by_their_files(write, names, kind):
    folder = write(dict.fromkeys(names, ""))
    assert isinstance(detect(folder), kind)
    assert detect(folder / names[1]) == detect(folder)


def test_reviews_and_meta_files_are_told_apart(write):
    folder = write({"meta_X.jsonl": "", "X.jsonl.gz": "", "meta_Y.jsonl": ""})
    source = detect(folder)
    assert (source.meta, source.reviews) == (folder / "meta_X.jsonl", folder / "X.jsonl.gz")


def test_own_events_with_usual_names(write):
    folder = write({"items.csv": "ASIN,title\n", "events.tsv": "user\tproduct_id\ttimestamp\n"})
    assert detect(folder) == TableData(
        format="tables", items=folder / "items.csv", item_id="ASIN", events=folder / "events.tsv",
        user_column="user", item_column="product_id", time_column="timestamp",
    )  # fmt: skip


def test_own_events_without_time(write):
    folder = write({"items.csv": "id,title\n", "events.csv": "uid,item\n"})
    assert detect(folder).time_column is None


def test_own_histories(write):
    folder = write({"items.jsonl": '{"id": 1, "title": "A"}\n', "histories.csv": "user_id,history\n"})
    source = detect(folder)
    assert (source.histories, source.history_column, source.item_id) == (
        folder / "histories.csv",
        "history",
        "id",
    )


def test_sequences_with_a_table_beside_them(write):
    folder = write({"items.tsv": "asin\ttitle\n", "sequences.csv": ""})
    assert detect(folder) == SequenceData(
        format="sequences", items=folder / "items.tsv", item_id="asin", sequences=folder / "sequences.csv"
    )


def test_columns_that_cannot_be_told_are_named(write):
    folder = write({"items.csv": "number,title\n", "events.csv": "uid,item\n"})
    with pytest.raises(DataError, match=r"items\.csv: can't tell which column is `item_id`.*number, title"):
        detect(folder)


def test_a_configuration_names_its_data(write):
    folder = write(
        {"run.yaml": "data:\n  format: demo\n  users: 30\n", "bad.yaml": "data: {format: nothing}\n"}
    )
    assert detect(folder / "run.yaml") == DemoData(users=30)
    with pytest.raises(ConfigError):
        detect(folder / "bad.yaml")


def test_nothing_known_is_refused_with_what_is_there(write):
    with pytest.raises(DataError, match=r"found readme\.txt.*MIND.*own tables"):
        detect(write({"readme.txt": ""}))


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        detect(tmp_path / "none")


def test_folders_of_parts_are_tables(write):
    folder = write({"items.csv": "item_id,title\na,A\n"})
    for name in ("events.parquet", "histories"):
        (folder / name).mkdir()
    (folder / "events.parquet" / "part-00000.csv").write_text("user,item,date\nu,a,1\n")
    source = detect(folder)
    assert (source.events, source.user_column, source.time_column) == (
        folder / "events.parquet",
        "user",
        "date",
    )
    assert detect(folder / "events.parquet") == source
