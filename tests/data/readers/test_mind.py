import pytest

from trsr.config.data import MindData
from trsr.data.readers.registry import read
from trsr.errors import DataError

NEWS = (
    'N1\tnews\tworld\tA "quote that never ends\tText one\turl\t[]\t[]\n'
    "N2\tsports\tgolf\tTitle two\t\turl\t[]\t[]\n"
    "N3\tnews\tus\tTitle three\tText three\turl\t[]\t[]\n"
)
BEHAVIORS = (
    "1\tU1\t11/12/2019 2:14:46 PM\tN1\tN2-1 N3-0\n"
    "2\tU1\t11/13/2019 9:00:00 AM\tN1 N2\tN1-0 N3-1\n"
    "3\tU2\t11/12/2019 12:00:00 AM\t\tN3-1 N1-1\n"
)


def read_rows(write, news=NEWS, behaviors=BEHAVIORS):
    return read(MindData(format="mind", path=write({"news.tsv": news, "behaviors.tsv": behaviors})))


def test_the_row_with_the_longest_history_and_its_clicks_make_the_history(write, counts_of):
    dataset, findings = read_rows(write)
    # 13 November 2019, 9:00 UTC and 12 November 2019, 0:00 UTC, by hand from 18,213 days since 1970.
    second, first = 18213 * 86400 + 9 * 3600, 18212 * 86400
    assert dataset.histories.rows() == [
        ("U1", ["N1", "N2", "N3"], [second] * 3),
        ("U2", ["N3", "N1"], [first] * 2),
    ]
    assert dataset.items.row(0) == ("N1", "news", "world", 'A "quote that never ends', "Text one")
    assert counts_of(findings) == {"further-row": 1}


def test_of_equal_histories_the_latest_row_counts(write, histories_of):
    rows = "1\tU\t11/13/2019 2:00:00 PM\tN1\tN2-1\n2\tU\t11/13/2019 11:00:00 AM\tN1\tN3-1\n"
    dataset, _ = read_rows(write, behaviors=rows)
    assert histories_of(dataset) == {"U": ["N1", "N2"]}


def test_missing_news_are_removed_counted_and_located(write, histories_of):
    dataset, findings = read_rows(write, behaviors="1\tU\t11/13/2019 2:00:00 PM\tN9 N1 N9\tN2-1\n")
    assert histories_of(dataset) == {"U": ["N1", "N2"]}
    unknown = next(finding for finding in findings if finding.rule == "unknown-item")
    assert (unknown.count, unknown.examples[0]) == (2, "behaviors.tsv:1: item N9 of user U")


def test_bad_rows_bad_times_and_unlabelled_impressions(write, histories_of, counts_of):
    rows = (
        "1\tU\t13/13/2019 2:00 PM\tN1\tN2-1\n"
        "2\tV\t11/13/2019 2:00:00 PM\tN1\n"
        "3\tW\t11/13/2019 2:00:00 PM\tN1 N2\tN3 N2\n"
        "4\tX\t11/13/2019 2:00:00 PM\t\tN3-0\n"
    )
    dataset, findings = read_rows(write, behaviors=rows)
    assert histories_of(dataset) == {"U": ["N1", "N2"], "W": ["N1", "N2"]}
    assert dataset.histories["times"].to_list()[0] is None
    counts = counts_of(findings)
    assert {"bad-row": 1, "bad-time": 1, "missing-times": 1, "empty-history": 1}.items() <= counts.items()
    assert counts["unlabelled-impression"] == 1


def test_files_of_another_format_are_refused(write):
    with pytest.raises(DataError, match="no item is left"):
        read_rows(write, news="id,title\n1,a\n")
    with pytest.raises(DataError, match="the file is empty"):
        read_rows(write, behaviors="")


TABLE = (
    "impression_id,label,history_news_id,history_title,history_category,history_subvert,history_abstract,"
    "candidate_news_id,candidate_title\n"
    '5,C1,"N7\nN1","Title seven\nOther one","news\nnews","us\nus","Text\n",'
    '"N8\nN7","Title eight\nNot seven"\n'
    '6,C1,N9,"A title\nof two lines",news,us,Text,"N5\nN6",Only one title\n'
)


def with_texts(write, files, **more):
    folder = write({"news.tsv": NEWS, **more, **files})
    texts = tuple(folder / name for name in files)
    return MindData(format="mind", path=folder, texts=texts)


def test_texts_come_from_further_files_and_nothing_else_does(write, histories_of, counts_of):
    rows = "1\tU1\t11/12/2019 2:14:46 PM\tN7 N1 N8 N9 N5 N4\tN2-1\n"
    source = with_texts(
        write, {"test.csv": TABLE, "more.tsv": NEWS.replace("N1", "N4").replace("N2", "N8")},
        **{"behaviors.tsv": rows},
    )  # fmt: skip
    dataset, findings = read(source)
    texts = {row[0]: row[1:] for row in dataset.items.rows()}
    assert texts["N7"] == ("news", "us", "Title seven", "Text")
    assert texts["N8"] == ("", "", "Title eight", "")
    assert texts["N9"][2] == "A title\nof two lines"
    assert texts["N1"][2] == 'A "quote that never ends'
    assert texts["N4"] == texts["N1"]
    assert set(texts) == {"N1", "N2", "N3", "N4", "N7", "N8", "N9"}
    assert histories_of(dataset) == {"U1": ["N7", "N1", "N8", "N9", "N4", "N2"]}
    counts = counts_of(findings)
    assert (counts["differing-text"], counts["further-text"]) == (3, 4)  # N1, N7, N8; N4, N7, N8, N9
    assert next(f for f in findings if f.rule == "bad-row").examples == ("test.csv:10: N5 N6",)
    share = next(finding for finding in findings if finding.rule == "known-share")
    assert share.count == 5
    assert "16.7% by news.tsv alone, 83.3% with data.texts" in share.message


def test_further_rows_without_id_or_text_are_told(write):
    table = "news_id,title,abstract\nN9,N/A,\n ,Nothing,\nN8,Eight,\n"
    dataset, findings = read(with_texts(write, {"t.csv": table}, **{"behaviors.tsv": BEHAVIORS}))
    assert dataset.items["item_id"].to_list() == ["N1", "N2", "N3", "N8"]
    empty = next(finding for finding in findings if finding.rule == "empty-text")
    assert (empty.count, empty.examples) == (2, ("t.csv:2: N9 N/A", "t.csv:3:  Nothing"))


def test_a_news_whose_text_is_empty_has_it_from_a_further_file(write):
    news = "N1\tc\ts\t\t\tu\t[]\t[]\n"
    source = with_texts(
        write, {"t.jsonl": '{"news_id": "N1", "title": "A"}\n'}, **{"behaviors.tsv": BEHAVIORS}
    )
    (source.path / "news.tsv").write_text(news)
    assert read(source)[0].items.rows() == [("N1", "", "", "A", "")]


def test_texts_in_an_unknown_form_or_place_are_refused(write):
    source = with_texts(write, {"t.csv": "id,title\nN1,A\n"}, **{"behaviors.tsv": BEHAVIORS})
    with pytest.raises(DataError, match=r"t\.csv: no column 'news_id'; the columns are 'id', 'title'"):
        read(source)
    (source.path / "t.csv").unlink()
    with pytest.raises(DataError, match=r"t\.csv: no such file"):
        read(source)


def test_the_known_share_is_told_without_further_files_too(write):
    _, findings = read_rows(write, behaviors="1\tU\t11/13/2019 2:00:00 PM\tN9 N1 N9 N2\t\n")
    share = next(finding for finding in findings if finding.rule == "known-share")
    assert share.count == 2
    assert "50.0% by news.tsv alone" in share.message
    assert "data.texts takes further files" in share.message


def test_real_texts_make_the_sample_usable(real_data):
    tables = real_data("mind_recprompt")
    texts = (tables / "test.csv", tables / "valid.csv")
    folder = real_data("mind_sample")
    dataset, findings = read(MindData(format="mind", path=folder, texts=texts))
    alone, _ = read(MindData(format="mind", path=folder))
    assert dataset.items.height == 2000 + 3527
    share = next(finding for finding in findings if finding.rule == "known-share")
    assert "3.9% by news.tsv alone, 61.9% with data.texts" in share.message
    assert set(alone.histories["user_id"]) <= set(dataset.histories["user_id"])
    shown = {
        line.split("\t")[1] for line in (folder / "behaviors.tsv").read_text(encoding="utf-8").splitlines()
    }
    assert set(dataset.histories["user_id"]) <= shown


def test_real_sample_against_plain_counting(real_data, histories_of, counts_of):
    folder = real_data("mind_sample")
    dataset, findings = read(MindData(format="mind", path=folder))
    known = {line.split("\t")[0] for line in (folder / "news.tsv").read_text(encoding="utf-8").splitlines()}
    best = {}
    for line in (folder / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
        _, user, _, history, impressions = line.split("\t")
        clicks = [shown[:-2] for shown in impressions.split() if shown.endswith("-1")]
        best.setdefault(user, []).append((history.split(), clicks))
    histories = histories_of(dataset)
    assert len(best) == 4637
    assert dataset.items.height == len(known) == 2000
    assert counts_of(findings)["unknown-id"] == 16927
    assert len(histories) + counts_of(findings)["user-without-items"] == len(best)
    for user, rows in best.items():
        longest = max(len(history) for history, _ in rows)
        sequences = [[i for i in (*h, *c) if i in known] for h, c in rows if len(h) == longest]
        assert histories.get(user, []) in sequences
