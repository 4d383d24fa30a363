from __future__ import annotations

from contextlib import nullcontext

import pytest

from trsr.config.summary import Check, Summarization
from trsr.errors import WriterError
from trsr.llm.generator import Completion
from trsr.prompts.templates import Templates
from trsr.summarize.checks import Asked, FirstAnswers, Verdict, judge, read_answer, unknown_names

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


def check(
    text: str,
    finish: str = "stop",
    tokens: int = 30,
    asked: Asked = ASKED,
    checks: tuple[Check, ...] = Summarization().checks,
) -> str:
    completion = Completion(text, 300, tokens, finish)
    verdict = judge(read_answer(completion), completion, asked, checks)
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
    assert check("This shopper buys sturdy tools and", finish="length") == "cut"
    assert check(GOOD[0].replace(".", ","), finish="length") == "cut"
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


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("Likes tea. Buys pots, e.g. iron", "Likes tea."),
        ("Likes tea! Pays about 18.", "Likes tea!"),
        ("Likes the tea of Dr. Uji. They", "Likes the tea of Dr. Uji."),
        ("喜欢茶叶。喜欢", "喜欢茶叶。"),
        ("Likes tea.", "Likes tea."),
        ("Pays about 18.", "Pays about 18"),
        ("Likes tea, pots, tea, tins and", "Likes tea, pots, tea, tins and"),
    ],
)
def test_a_cut_answer_is_read_up_to_its_last_whole_sentence(cut: str, whole: str) -> None:
    assert read_answer(Completion(cut, 300, 150, "length")) == whole
    assert read_answer(Completion(cut, 300, 30, "stop")) == cut


def test_a_cut_line_is_read_up_to_its_last_whole_part_and_says_each_part_once() -> None:
    loop = Completion("Buys tea, pots, 3 tins, pots, 3 tins, po", 300, 40, "length")
    assert read_answer(loop, is_line=True) == "Buys tea, pots, 3 tins."
    assert check_line("Buys tea, pots, 3 tins, pots, 3 tins, po") == ""
    assert check_line("Buys tea and pots and") == "cut"


def check_line(text: str) -> str:
    completion = Completion(text, 300, 40, "length")
    verdict = judge(read_answer(completion, is_line=True), completion, ASKED, Summarization().checks)
    return verdict.check if verdict else ""


@pytest.mark.parametrize(
    "text",
    [
        "Buys a light bulb and a light bulb holder, and a light bulb holder.",
        "Buys a bike with a bell, and a bag with a bell for a bike.",
    ],
)
def test_short_english_with_many_articles_is_english(text: str) -> None:
    assert check(text) == ""


def test_names_must_stand_in_the_items_or_the_summary_before() -> None:
    told = "title: Cordless drill 18V; brand: Bolt\nLikes tea from Uji, by Hatch Box."
    asked = Asked(ASKED.instruction, PROMPT, 150, told)
    assert check("Likes Bolt drills of 18V and tea from Uji.", asked=asked, checks=("grounding",)) == ""
    assert check("Likes Bolt drills and Dexter saws.", asked=asked, checks=("grounding",)) == "grounding"
    assert check("Likes Bolt drills and Dexter saws.", asked=asked) == ""  # off unless it is named
    assert unknown_names("Brands: Bolt, Dexter, HATCHBOX. Tools of 20V, McTool's and X.", told) == [
        "Dexter",
        "20V",
        "McTool",
    ]


@pytest.mark.parametrize(
    "text", ["喜欢茶叶和工具。", "お茶と工具が好きです。", "يحب الشاي والأدوات", "אוהב תה וכלים"]
)
def test_scripts_without_capitals_have_no_names_to_check(text: str) -> None:
    assert unknown_names(text, "tea") == []


def test_german_nouns_are_no_names() -> None:
    instruction = (
        "Schreibe eine Zusammenfassung der Vorlieben. Das ist für die Leser, die den Verlauf nicht kennen."
    )
    asked = Asked(instruction, "", 150, "Tee")
    assert check("Mag Tee und Werkzeug.", asked=asked, checks=("grounding",)) == ""


FAULT = Verdict("cut", "was cut at the limit of tokens", "Be shorter.", "raise the limit")


def test_ten_first_answers_that_all_fail_alike_end_the_run_with_the_next_step() -> None:
    first = FirstAnswers()
    for _ in range(9):
        first.note(FAULT, "They are loyal and")
    with pytest.raises(WriterError) as caught:
        first.note(FAULT, "They are loyal and")
    assert str(caught.value).startswith(
        "10 of the first 10 answers fail the check 'cut': an answer was cut at the limit of tokens, such as "
        "'They are loyal and'. "
    )
    assert "raise the limit, set summary.writer.style to the other one" in str(caught.value)


@pytest.mark.parametrize(("good", "stops"), [(1, True), (2, True), (3, False), (10, False)])
def test_of_twenty_first_answers_eighteen_may_not_fail_alike(good: int, stops: bool) -> None:
    first = FirstAnswers()
    for _ in range(good):
        first.note(None, "Likes tea.")
    with pytest.raises(WriterError, match=f"{20 - good} of the first 20") if stops else nullcontext():
        for _ in range(60):
            first.note(FAULT, "They")


def test_answers_that_fail_for_unlike_reasons_end_nothing() -> None:
    first = FirstAnswers()
    for number in range(20):
        first.note(FAULT if number % 2 else Verdict("echo", "repeated the prompt", ""), "They")
