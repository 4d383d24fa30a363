import pytest

from trsr.summarize.keyphrase.writer import NOTHING, Taste, enumerate_words, write


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([], ""), (["oak"], "oak"), (["oak", "ash"], "oak and ash"), (list("abc"), "a, b and c")],
)
def test_enumeration(parts, expected):
    assert enumerate_words(parts) == expected


@pytest.mark.parametrize(
    ("taste", "expected"),
    [
        (Taste(), NOTHING),
        (Taste(("lamps",)), "Mostly buys lamps."),
        (Taste(("lamps",), ("Svarl",)), "Mostly buys lamps, often by Svarl."),
        (Taste((), ("Svarl",), ("oak",)), "Mostly buys items by Svarl; looks for oak."),
        (Taste((), (), ("oak",), ("rugs",)), "Looks for oak. Lately turning to rugs."),
        (
            Taste((), (), (), ("rugs", "pots"), ("lamps",)),
            "Lately turning to rugs and pots; less often lamps.",
        ),
    ],
)
def test_sentences_leave_out_what_is_not_known(taste, expected):
    assert write(taste, "shopping") == expected


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("shopping", "Mostly buys chess; looks for Go."),
        ("news", "Mostly reads about chess; follows Go."),
        ("video", "Mostly watches videos about chess; also likes Go."),
        ("generic", "Mostly chooses chess; likes Go."),
    ],
)
def test_every_domain_has_its_words(domain, expected):
    assert write(Taste(("chess",), (), ("Go",)), domain) == expected
