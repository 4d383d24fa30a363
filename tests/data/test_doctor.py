import pytest

from trsr.config import Config
from trsr.config.data import CandidateRule, HistoryWindow, TableData
from trsr.data.doctor import detect, examine, render
from trsr.data.prepare import prepare
from trsr.errors import DataError

ITEMS = "item_id,title\na,Hammer\nb,\x1b[31mred\nc,Saw\n"
HISTORIES = 'user_id,item_ids\nu,a b c a\nv,a b\nw,"a,x,b,c"\nx,x y\ny,\n'


@pytest.fixture
def diagnosis(write):
    folder = write({"items.csv": ITEMS, "histories.csv": HISTORIES})
    return examine(Config(data=detect(folder), history=HistoryWindow(min=2, max=3)))


def test_users_left_after_each_rule(diagnosis):
    assert [step.users for step in diagnosis.steps] == [5, 4, 3, 3, 1]
    assert (diagnosis.items, diagnosis.interactions, diagnosis.timed_users) == (3, 9, 0)
    # Lengths are 4, 2 and 3 (x is unknown).
    assert diagnosis.length_quartiles[::2] == (2, 3, 4)


def test_the_text_names_every_finding_with_its_places(diagnosis):
    text = render(diagnosis)
    assert "3  unknown-item (dropped)" in text
    assert "histories.csv:4: item x of user w" in text
    assert "1  empty-history (dropped)" in text
    assert "1  of these, cut to their newest 3" in text
    assert "No user takes part: `trsr prepare` refuses" in text


def test_item_text_cannot_steer_the_terminal(write):
    folder = write(
        {
            "items.csv": "item_id,title\nb,\x1b[31mred\n",
            "histories.csv": "user_id,item_ids\nu\x1b,\x1b]0;x b\n",
        }
    )
    text = render(examine(Config(data=detect(folder))))
    assert "·[31mred" in text
    assert "\x1b" not in text


def test_no_user_left_says_what_to_change(write):
    folder = write({"items.csv": ITEMS, "histories.csv": HISTORIES})
    assert "lower history.min" in render(examine(Config(data=detect(folder))))


@pytest.mark.parametrize(
    ("name", "users", "cut"),
    [
        ("microlens", (39949, 39949, 39949, 4095), 332),
        ("amazon_industrial", (3285, 3285, 3285, 351), 2),
        ("mind_sample", (4637, 4637, 2449, 18), 0),
        ("games6k", (50546, 50546, 50546, 9728), 1443),
        ("ml100k", (943, 943, 943, 943), 778),
        ("beauty", (22363, 22363, 22363, 4242), 661),
    ],
)
def test_real_data(real_data, name, users, cut):
    diagnosis = examine(Config(data=detect(real_data(name))))
    assert tuple(step.users for step in diagnosis.steps) == (*users, cut)


def test_sources_may_be_given_by_hand(write):
    folder = write({"i.csv": "item_id,title\na,A\n", "e.csv": "user_id,item_id,time\nu,a,5\n"})
    source = TableData(format="tables", items=folder / "i.csv", events=folder / "e.csv")
    assert examine(Config(data=source)).timed_users == 1


def shop(write, users, items):
    rows = [f"u{user},i{place}" for user in range(users) for place in range(12)]
    catalogue = "".join(f"i{place},Item {place}\n" for place in range(items))
    return write(
        {
            "items.csv": "item_id,title\n" + catalogue,
            "events.csv": "user_id,item_id\n" + "\n".join(rows) + "\n",
        }
    )


@pytest.mark.parametrize(
    ("users", "items", "words"),
    [(1, 40, "split: no user for"), (60, 30, "the catalogue of 30 items leaves only 18"), (60, 40, "")],
)
def test_the_verdict_is_that_of_prepare(write, users, items, words):
    config = Config(data=detect(shop(write, users, items)))
    diagnosis = examine(config)
    if words:
        with pytest.raises(DataError, match=words) as refused:
            prepare(config)
        assert diagnosis.refusal == str(refused.value)
        assert diagnosis.usable_users == 0
        assert "take part with these settings" not in render(diagnosis)
        return
    assert diagnosis.refusal == ""
    assert diagnosis.usable_users == prepare(config).histories.height == users
    assert render(diagnosis).endswith("60 users take part with these settings.")


def test_every_setting_of_prepare_counts(write):
    config = Config(data=detect(shop(write, 60, 30)), candidates=CandidateRule(negatives=18))
    assert examine(config).refusal == ""
