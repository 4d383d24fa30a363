import pytest

from trsr.config.data import HistoryWindow, TableData
from trsr.data.doctor import detect, examine, render

ITEMS = "item_id,title\na,Hammer\nb,\x1b[31mred\nc,Saw\n"
HISTORIES = 'user_id,item_ids\nu,a b c a\nv,a b\nw,"a,x,b,c"\nx,x y\ny,\n'


@pytest.fixture
def diagnosis(write):
    folder = write({"items.csv": ITEMS, "histories.csv": HISTORIES})
    return examine(detect(folder), HistoryWindow(min=2, max=3))


def test_users_left_after_each_rule(diagnosis):
    assert [step.users for step in diagnosis.steps] == [5, 4, 3, 3, 1]
    assert diagnosis.usable_users == 3
    assert (diagnosis.items, diagnosis.interactions, diagnosis.timed_users) == (3, 9, 0)
    # Lengths are 4, 2 and 3 (x is unknown).
    assert diagnosis.length_quartiles[::2] == (2, 3, 4)


def test_the_text_names_every_finding_with_its_places(diagnosis):
    text = render(diagnosis)
    assert "3  unknown-item (dropped)" in text
    assert "histories.csv:4: item x of user w" in text
    assert "1  empty-history (dropped)" in text
    assert "1  of these, cut to their newest 3" in text
    assert text.endswith("too few to draw negatives from; give the whole catalogue.")


def test_item_text_cannot_steer_the_terminal(write):
    folder = write(
        {
            "items.csv": "item_id,title\nb,\x1b[31mred\n",
            "histories.csv": "user_id,item_ids\nu\x1b,\x1b]0;x b\n",
        }
    )
    text = render(examine(detect(folder), HistoryWindow()))
    assert "·[31mred" in text
    assert "\x1b" not in text


def test_no_user_left_says_what_to_change(write):
    folder = write({"items.csv": ITEMS, "histories.csv": HISTORIES})
    assert "Lower `history.min`" in render(examine(detect(folder), HistoryWindow()))


@pytest.mark.parametrize(
    ("name", "users", "cut"),
    [
        ("microlens", (39949, 39949, 39949, 4095), 332),
        ("amazon_industrial", (3285, 3285, 3285, 351), 2),
        ("mind_sample", (4637, 4637, 2449, 18), 0),
    ],
)
def test_real_data(real_data, name, users, cut):
    diagnosis = examine(detect(real_data(name)), HistoryWindow())
    assert tuple(step.users for step in diagnosis.steps) == (*users, cut)


def test_sources_may_be_given_by_hand(write):
    folder = write({"i.csv": "item_id,title\na,A\n", "e.csv": "user_id,item_id,time\nu,a,5\n"})
    source = TableData(format="tables", items=folder / "i.csv", events=folder / "e.csv")
    assert examine(source, HistoryWindow()).timed_users == 1
