from __future__ import annotations

from typing import get_args

import pytest

from trsr.config.summary import Check
from trsr.llm.generator import Completion
from trsr.prompts.templates import Templates
from trsr.summarize.checks import Asked, judge, to_paragraph

ITEMS = [
    "title: Cordless drill 18V with two batteries and a charger in a sturdy case; brand: Bolt",
    "title: Japanese green tea, first harvest, loose leaves in a tin box; brand: Uji",
]
TEMPLATES = Templates("shopping")
PROMPT = TEMPLATES.render("describe", items=ITEMS)
ASKED = Asked(TEMPLATES.render("describe", items=[]), PROMPT, max_tokens=150)
GOOD = [
    "This shopper buys sturdy tools for home repair and pays attention to known brands. Lately they turn to "
    "Japanese tea, mostly loose leaves, and accept higher prices for quality.",
    "Likes tea.",
    "Enjoys sci-fi films, classic rock, vintage furniture, Italian cooking, outdoor gear, hiking boots, "
    "camping lamps, dark chocolate, jazz records.",
    "A practical shopper who can't resist a bargain; prefers Bosch, Makita and Bolt at 50 to 90 dollars.",
    "Prefers 中文 books and Käthe Kruse dolls, der, die, das: learns German and Chinese from primers.",
]


def check(text: str, finish: str = "stop", tokens: int = 30, asked: Asked = ASKED) -> str:
    verdict = judge(to_paragraph(text), Completion(text, 300, tokens, finish), asked, get_args(Check))
    return verdict.check if verdict else ""


@pytest.mark.parametrize("text", GOOD)
def test_good_summaries_pass(text: str) -> None:
    assert check(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("<think>The shopper", "thoughts"),
        ("yes", "no_summary"),
        ('{"summary": "likes tea and tools"}', "no_summary"),
        ("```\nLikes tea and tools\n```", "no_summary"),
        ("I could list the tools. Would you like me to go on?", "no_summary"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I’m unable to make judgements about people.", "refusal"),
        ("As an AI language model, I do not know this person.", "refusal"),
        ("Unfortunately, there is too little information here.", "refusal"),
        ("Please provide the products.", "refusal"),
        ("Likes tea and tools. " * 12, "repetition"),
        ("tea " * 60, "repetition"),
        ("喜欢茶叶和工具。" * 30, "repetition"),
        (PROMPT, "echo"),
        (" ".join(ITEMS), "echo"),
        ("Dieser Käufer mag Werkzeug von Bolt und kauft auch Tee aus Japan; der Preis ist nicht wichtig.",
         "language"),
        ("Cet acheteur aime les outils de la marque Bolt et le thé du Japon, qui est pour lui un plaisir.",
         "language"),
        ("这位顾客喜欢结实的工具，最近转向日本绿茶，愿意为质量付更高的价格。", "language"),
        ("Этот покупатель любит инструменты и японский чай.", "language"),
    ],
)  # fmt: skip
def test_useless_answers_are_told_apart(text: str, expected: str) -> None:
    assert check(text) == expected


def test_a_cut_answer_and_one_over_the_limit() -> None:
    assert check(GOOD[0], finish="length") == "cut"
    assert check(GOOD[0], tokens=151) == "long"
    assert check(GOOD[0], asked=Asked(ASKED.instruction, ASKED.shown, max_tokens=20), tokens=0) == "long"


def test_a_summary_that_was_shown_may_stay_as_it_is() -> None:
    instruction = TEMPLATES.render("update", summary="", items=[])
    prompt = TEMPLATES.render("update", summary=GOOD[0], items=ITEMS)
    assert check(GOOD[0], asked=Asked(instruction, prompt.replace(GOOD[0], ""), 150)) == ""
    assert check(GOOD[0], asked=Asked(instruction, prompt, 150)) == "echo"


def test_instructions_of_another_language_want_answers_of_that_language() -> None:
    german = Asked(
        "Schreibe eine Zusammenfassung der Vorlieben. Das ist für die Leser, die den Verlauf nicht kennen.",
        "",
        150,
    )
    assert check("Dieser Käufer mag Werkzeug und kauft auch Tee aus Japan; der Preis ist nicht so wichtig.",
                 asked=german) == ""  # fmt: skip
    assert check(GOOD[0], asked=german) == "language"


def test_checks_can_be_left_out_but_for_the_empty_answer() -> None:
    refusal = Completion("I'm sorry.", 10, 3, "stop")
    assert judge(refusal.text, refusal, ASKED, ()) is None
    nothing = judge("", Completion("", 10, 0, "stop"), ASKED, ())
    assert nothing is not None
    assert nothing.check == "empty"
    kept_back = judge("Likes", Completion("Likes", 10, 3, "content_filter"), ASKED, ())
    assert kept_back is not None
    assert kept_back.check == "filtered"
