import pytest

from trsr.config.data import MovieLensData
from trsr.data.readers.registry import detect, input_files, read
from trsr.errors import DataError

FLAGS = ["0"] * 19


def movie(number, title, *genres):
    flags = [str(int(place in genres)) for place in range(19)]
    return "|".join([str(number), title, "01-Jan-1995", "", "http://x", *flags])


U_ITEM = f"{movie(1, 'Misérables, Les (1995)', 8, 14)}\n{movie(2, 'Heat', 0)}\n".encode("latin-1")
U_DATA = "196\t1\t3\t881250949\n196\t2\t5\t881250940\n7\t1\t4\t881250000\n"
CSV = {
    "movies.csv": 'movieId,title,genres\n1,"Story, Toy",Adventure|Fantasy\n2,Heat,(no genres listed)\n',
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,4.0,964982703\n1,1,0.5,964981247\n",
}


def folder_of(write, files, **settings):
    return MovieLensData(format="movielens", path=write(files), **settings)


def test_the_files_of_100k(write, histories_of, counts_of):
    source = detect(write({"u.data": U_DATA, "u.item": U_ITEM, "u1.base": "9\t1\t3\t5\n"}))
    dataset, findings = read(source)
    assert dataset.items.rows() == [("1", "Misérables, Les (1995)", "Drama, Romance"), ("2", "Heat", "")]
    assert dataset.histories.rows() == [
        ("196", ["2", "1"], [881250940, 881250949]),
        ("7", ["1"], [881250000]),
    ]
    assert counts_of(findings)["encoding"] == 1


def test_an_older_file_that_was_written_anew_is_utf_8(write, counts_of):
    item = U_ITEM.decode("latin-1").encode()
    dataset, findings = read(folder_of(write, {"u.data": U_DATA, "u.item": item}))
    assert dataset.items["title"][0] == "Misérables, Les (1995)"
    assert "encoding" not in counts_of(findings)


def test_ratings_files_are_a_setting(write, histories_of):
    files = {"u1.base": U_DATA, "u1.test": "8\t2\t5\t1\n", "u2.base": "9\t2\t5\t1\n", "u.item": U_ITEM}
    assert histories_of(read(folder_of(write, files))[0]) == {
        "196": ["2", "1"],
        "7": ["1"],
        "8": ["2"],
    }
    source = folder_of(write, files, ratings=("u1.test", "u2.base"))
    assert histories_of(read(source)[0]) == {"8": ["2"], "9": ["2"]}
    assert [path.name for path in input_files(source)] == ["u.item", "u1.test", "u2.base"]


def test_targets_come_from_their_own_file_whatever_is_older(write, histories_of, counts_of):
    test = "196\t3\t5\t7\n196\t1\t5\t9\n7\t9\t5\t881250001\n"
    base = "196\t2\t5\t881250940\n196\t4\t5\t881250930\n7\t1\t4\t881250000\n8\t1\t4\t881250000\n"
    items = U_ITEM + f"{movie(3, 'Alien')}\n{movie(4, 'Brazil')}\n".encode()
    files = {"u1.base": base, "u1.test": test, "u.item": items}
    source = folder_of(write, files, ratings=("u1.base", "u1.test"), targets=("u1.test",))
    dataset, findings = read(source)
    assert histories_of(dataset) == {"196": ["4", "2", "1"]}
    assert counts_of(findings)["no-target"] == 2


@pytest.mark.parametrize("targets", [("u2.test",), ("u1.base", "u1.test")])
def test_targets_are_some_of_the_ratings(tmp_path, targets):
    with pytest.raises(ValueError, match="targets must be some of `ratings`, not all, got u"):
        MovieLensData(format="movielens", path=tmp_path, ratings=("u1.base", "u1.test"), targets=targets)


def test_the_files_of_1m(write, histories_of):
    movies = "1::Toy: Story (1995)::Animation|Children's\n2::Città|Città::Drama\n".encode("latin-1")
    dataset, _ = read(
        detect(write({"movies.dat": movies, "ratings.dat": "1::2::5::978300760\n1::1::3::978300761\n"}))
    )
    assert dataset.items.rows() == [
        ("1", "Toy: Story (1995)", "Animation, Children's"),
        ("2", "Città|Città", "Drama"),
    ]
    assert histories_of(dataset) == {"1": ["2", "1"]}


def test_the_files_of_20m_and_later(write, histories_of, counts_of):
    source = detect(write(CSV))
    dataset, _ = read(source)
    assert dataset.items.rows() == [("1", "Story, Toy", "Adventure, Fantasy"), ("2", "Heat", "")]
    assert histories_of(dataset) == {"1": ["1", "2"]}
    dataset, findings = read(source.model_copy(update={"min_rating": 4.0}))
    assert histories_of(dataset) == {"1": ["2"]}
    assert counts_of(findings)["low-rating"] == 1


def test_the_most_frequent_tags_belong_to_the_text_where_they_are_asked_for(write):
    tags = "userId,movieId,tag,timestamp\n1,1,pixar,1\n2,1,Fun,2\n3,1,fun,3\n4,1,old,4\n5,9,x,5\n6,1,N/A,6\n"
    source = folder_of(write, {**CSV, "tags.csv": tags}, tags=2)
    assert read(source)[0].items["tags"].to_list() == ["Fun, pixar", ""]
    assert read(source.model_copy(update={"tags": 0}))[0].fields == ("title", "genres")
    (source.path / "tags.csv").unlink()
    with pytest.raises(DataError, match=r"tags\.csv: no such file"):
        read(source)


WIDE = (
    "movie_id,title,date,Action,Drama,date,id,genres,overview,tagline,cast\n"
    "1,Heat,1,1,0,2,949,\"[{'id': 1, 'name': 'Crime'}, {'id': 2, 'name': 'Thriller'}]\",A thief.,Wow,Al\n"
    "2,Alien,1,1,1,2,950,,,,Sigourney\n"
)


def test_further_columns_and_every_way_to_write_genres(write):
    files = {"movies.csv": WIDE, "u1.base": U_DATA}
    dataset, _ = read(folder_of(write, files))
    assert dataset.fields == ("title", "genres", "overview", "tagline")
    assert dataset.items.rows() == [
        ("1", "Heat", "Crime, Thriller", "A thief.", "Wow"), ("2", "Alien", "Action, Drama", "", ""),
    ]  # fmt: skip
    assert read(folder_of(write, files, columns=("cast",)))[0].fields == ("title", "genres", "cast")
    with pytest.raises(DataError, match=r"movies\.csv: no column 'plot'.*'overview'"):
        read(folder_of(write, files, columns=("plot",)))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"u.data": U_DATA}, r"no file of movies \(movies\.csv, u\.item.*found u\.data.*data\.movies"),
        ({"u.item": U_ITEM}, r"no file of ratings \(u\.data.*data\.ratings"),
        (
            {**CSV, "ratings.csv": "userId,rating,timestamp\n1,2,3\n"},
            r"ratings\.csv: no column 'movieid' or .*are userId, rating",
        ),
        ({**CSV, "movies.csv": "movieId,title\n1,A\n"}, r"movies\.csv: no column 'genres'"),
    ],
)
def test_what_is_missing_is_named(write, files, told):
    with pytest.raises(DataError, match=told):
        read(folder_of(write, files))


def test_bad_rows_are_counted_with_their_place(write, counts_of):
    _, findings = read(folder_of(write, {"u.data": U_DATA + "196\t1\n", "u.item": U_ITEM}))
    bad = next(finding for finding in findings if finding.rule == "bad-row")
    assert (bad.count, bad.examples) == (1, ("u.data:4: 196·1",))


def test_real_ratings_against_plain_counting(real_data):
    source = detect(real_data("ml100k"))
    dataset, _ = read(source)
    assert (dataset.histories.height, dataset.items.height) == (943, 1591)
    known = set(dataset.items["item_id"])
    lines = [
        line.split()
        for name in ("u1.base", "u1.test")
        for line in (source.path / name).read_text().splitlines()
    ]
    taken = sum(item in known for _, item, _, _ in lines)
    assert dataset.histories["item_ids"].list.len().sum() == taken
    liked = read(source.model_copy(update={"min_rating": 4.0}))[0].histories
    assert liked["item_ids"].list.len().sum() == sum(i in known and int(r) >= 4 for _, i, r, _ in lines)
