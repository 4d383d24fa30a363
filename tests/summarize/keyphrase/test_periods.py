import pytest

from trsr.summarize.keyphrase.interests import divide, join, observe

LAMP, DRILL = ("", "lamp"), ("", "drill")


def seen(**counts: int):
    return observe([{("", name): 1.0} for name, count in counts.items() for _ in range(count)])


def test_the_newest_block_is_recent_and_the_rest_is_past():
    periods = divide(join(seen(lamp=4), seen(lamp=1, drill=3), 0.5), 0.5)
    assert periods.recent.of == {LAMP: 1.0, DRILL: 3.0}
    assert (periods.past.of, periods.past.items) == ({LAMP: 2.0}, 2.0)


def test_a_short_newest_block_borrows_from_the_one_before():
    whole = join(join(seen(lamp=4), seen(drill=4), 0.5), seen(drill=1), 0.5)
    periods = divide(whole, 0.5)
    # One item is newest; three quarters of the four before it fill up to four.
    assert (periods.recent.of, periods.recent.items) == ({DRILL: 4.0}, 4.0)
    # Of the four, one is left and has faded once; the lamps have faded twice.
    assert periods.past.of == pytest.approx({LAMP: 1.0, DRILL: 0.5})
    assert periods.past.items == pytest.approx(1.5)


def test_one_block_has_no_past_and_all_of_it_lasts():
    periods = divide(seen(lamp=2), 0.5)
    assert (periods.past.items, periods.lasting) == (0.0, {LAMP: 2.0})


def test_a_burst_counts_no_more_than_its_past_promised_and_half_as_much():
    periods = divide(join(seen(lamp=9, drill=1), seen(drill=10), 0.5), 0.5)
    # Past: 4.5 lamps and 0.5 drills of 5 items; the whole has 15.
    assert periods.lasting == pytest.approx({LAMP: 4.5, DRILL: 1.5 * 15 / 5 * 0.5})
