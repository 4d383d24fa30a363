import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.errors import WriterError
from trsr.summarize.keyphrase.interests import dump, join, load, observe, trim

LAMP, DRILL, BOSCH = ("", "lamp"), ("", "drill"), ("brand", "bosch")


def seen(*features):
    return observe([{feature: 1.0} for feature in features])


def test_an_old_interest_fades_by_the_decay_for_every_block():
    whole = seen(LAMP, LAMP)
    for _ in range(3):
        whole = join(whole, seen(DRILL), decay=0.5)
    assert whole.all.of == {LAMP: 2 * 0.5**3, DRILL: 0.25 + 0.5 + 1}
    assert whole.all.items == 2 * 0.125 + 1.75
    assert whole.counts == {LAMP: 2, DRILL: 3}
    assert whole.blocks == 4


def test_the_two_newest_blocks_are_kept_apart():
    whole = join(join(seen(LAMP), seen(DRILL, DRILL), 0.5), seen(BOSCH), 0.5)
    assert whole.newest.of == {BOSCH: 1.0}
    assert (whole.previous.of, whole.previous.items) == ({DRILL: 2.0}, 2.0)


def test_order_matters():
    older, newer = seen(LAMP), seen(DRILL)
    assert join(older, newer, 0.5).all.of != join(newer, older, 0.5).all.of


def test_what_only_a_description_mentions_is_weighed_but_not_counted():
    whole = observe([{LAMP: 0.3}, {LAMP: 0.3}])
    assert whole.all.of[LAMP] == pytest.approx(0.6)
    assert LAMP not in whole.counts


@given(st.lists(st.lists(st.sampled_from([LAMP, DRILL, BOSCH]), min_size=1), min_size=3, max_size=3))
def test_joining_is_associative(blocks):
    first, second, third = (seen(*features) for features in blocks)
    left = join(join(first, second, 0.6), third, 0.6)
    right = join(first, join(second, third, 0.6), 0.6)
    assert left.all.of == pytest.approx(right.all.of)
    assert (left.newest, left.previous, left.counts, left.blocks) == (
        right.newest,
        right.previous,
        right.counts,
        right.blocks,
    )


def test_state_survives_writing_and_reading():
    whole = join(seen(LAMP, ("colour", 'dark "red"\n')), seen(BOSCH), 0.6)
    assert load(dump(whole)) == whole


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"blocks": 1, "all": 3}', "null"])
def test_a_foreign_state_is_refused(text):
    with pytest.raises(WriterError, match="not one of the keyphrase writer"):
        load(text)


def test_trimming_keeps_the_strongest_and_bounds_the_state():
    many = observe([{("", f"word{number:04}"): 1.0 + number} for number in range(1000)])
    kept = trim(many, lambda feature: 1.0)
    assert len(kept.all.of) == 80
    assert min(kept.all.of) == ("", "word0920")
    assert len(kept.newest.of) == 56
    assert set(kept.counts) == set(kept.all.of)
    assert kept.all.items == 1000
    assert len(dump(kept)) < 8000
