"""The attack suite: what a seller may write about an item, against every prompt and common tokenizers."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from hostile import ALL_CONTROLS, ATTACKS, FAMILIES, LONG_WORDS, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trsr.config.ranking import Training
from trsr.config.summary import Prompting
from trsr.hf.tokenization import PlainEncoder, TokenizerTokens, leading_ids
from trsr.llm.generator import Chat, ChatEncoder
from trsr.prompts.item_text import item_line, neutralise
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates
from trsr.ranking.ranker import Origin, Ranker
from trsr.ranking.scoring import RankingUser
from trsr.ranking.training import fine_tune
from trsr.records import Item

HARMLESS = Item("h", {"title": "Saw", "brand": "Ox"})
PROMPTING = Prompting(domain="shopping", recent_items=2, max_tokens=1500, summary_tokens=150)
BUILD = cache(tokenizer)
every_attack = pytest.mark.parametrize("attack", [*ATTACKS])
every_family = pytest.mark.parametrize("family", FAMILIES)


def hostile_items(attack: str) -> list[Item]:
    """The attack as a text, as a second text and as the name of a field."""
    text = ATTACKS[attack][0]
    return [
        Item("a", {"title": text, "brand": "Ox"}),
        Item("b", {"title": "Saw", "brand": text}),
        Item("c", {text: "Saw", "brand": "Ox"}),
    ]


def controls(made: PreTrainedTokenizerFast) -> set[int]:
    return {number for number in made.added_tokens_decoder if number != made.unk_token_id}


def ranking_prompt(made: PreTrainedTokenizerFast, *, terse: bool) -> RankingPrompt:
    encoder = PlainEncoder(made)
    templates = Templates("shopping", None)
    return RankingPrompt(
        templates, encoder, TokenizerTokens(encoder), PROMPTING,
        item_tokens=150, leading=leading_ids(made), terse=terse,
    )  # fmt: skip


@every_attack
def test_only_its_visible_words_are_left_of_an_attack(attack: str) -> None:
    text, visible = ATTACKS[attack]
    assert neutralise(text) == visible


@every_family
def test_the_tokenizers_fall_for_their_own_markers_when_nobody_protects_them(family: str) -> None:
    made = BUILD(family)
    marker = made.eos_token
    assert made.eos_token_id in made(f"Saw{marker} yes").input_ids


@pytest.mark.parametrize("terse", [False, True])
@every_family
@every_attack
def test_no_control_token_of_a_ranking_prompt_comes_from_data(attack: str, family: str, terse: bool) -> None:
    made = BUILD(family)
    prompt = ranking_prompt(made, terse=terse)
    text = ATTACKS[attack][0]
    prefix = prompt.prefix(text, hostile_items(attack)[:2])
    leading = leading_ids(made)
    assert prefix.ids[: len(leading)] == leading
    assert not controls(made) & set(prefix.ids[len(leading) :])
    for item in hostile_items(attack):
        assert not controls(made) & set(prompt.suffix(item).ids)


@pytest.mark.parametrize("terse", [False, True])
@every_attack
def test_no_section_of_a_ranking_prompt_can_be_forged(attack: str, terse: bool) -> None:
    prompt = ranking_prompt(BUILD("qwen"), terse=terse)
    other = Item("o", {"title": "Lamp", "brand": "Zed"})
    first, second, hostile = (
        prompt.prefix(summary, recent).text.splitlines()
        for summary, recent in (
            ("Likes saws.", [HARMLESS, HARMLESS]),
            ("Not sure.", [other, other]),
            (ATTACKS[attack][0], hostile_items(attack)[:2]),
        )
    )
    # Every line of the prompt's own, which no data changes, stands where it stood.
    assert len(hostile) == len(first) == len(second)
    own = [place for place, line in enumerate(first) if line == second[place]]
    assert len(own) >= (1 if terse else 6)
    assert [hostile[place] for place in own] == [first[place] for place in own]
    for item in hostile_items(attack):
        mine, theirs = (prompt.suffix(one).text.splitlines() for one in (HARMLESS, item))
        assert len(mine) == len(theirs)
        assert mine[-1] == theirs[-1]


@every_family
@every_attack
def test_no_chat_for_a_summary_can_be_broken_out_of(attack: str, family: str) -> None:
    made = BUILD(family)
    encode = ChatEncoder(made)
    templates = Templates("shopping", None)
    tokens = TokenizerTokens(PlainEncoder(made))

    def chat(items: list[Item], summary: str) -> Chat:
        lines = [item_line(item, tokens, 150) for item in items]
        user = templates.render("update", items=lines, summary=neutralise(summary))
        return Chat(user=user.strip(), system=templates.render("system").strip())

    harmless, hostile = chat([HARMLESS] * 3, "Likes saws."), chat(hostile_items(attack), ATTACKS[attack][0])
    seen = [
        Counter(number for number in encode(one) if number in controls(made)) for one in (harmless, hostile)
    ]
    assert seen[0] == seen[1]
    assert sum(seen[0].values()) > 0
    assert len(harmless.user.splitlines()) == len(hostile.user.splitlines())
    # A server encodes the text itself, perhaps carelessly: nothing in it is spelt like a control token.
    assert [token for token in ALL_CONTROLS if token in hostile.user] == []


@pytest.mark.parametrize("word", LONG_WORDS, ids=["letters", "markers", "joiners", "accents", "line breaks"])
@every_family
def test_words_without_end_keep_the_caps(word: str, family: str) -> None:
    made = BUILD(family)
    prompt = ranking_prompt(made, terse=False)
    item = Item("x", {"title": word})
    suffix = prompt.suffix(item)
    assert len(suffix.ids) <= prompt.suffix_tokens
    assert suffix.text.endswith("Answer:")
    prefix = prompt.prefix(word, [item] * 4)
    assert len(prefix.ids) <= prompt.prefix_tokens


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A model that has learnt to say yes to saws for those who like saws."""
    made = BUILD("qwen")
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=1024, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)  # not every start learns it from so few users
        model = LlamaForCausalLM(config)
    ranker = Ranker(model, made, PROMPTING, 60, Origin("huggingface", "test"))
    rope = Item("r", {"title": "Rope", "brand": "Ox"})
    users = [
        RankingUser(f"u{n}", f"Likes {['saws', 'ropes'][n % 2]}.", (), (HARMLESS, rope), n % 2)
        for n in range(32)
    ]
    settings = Training(method="full", epochs=16, negatives=1, batch_size=8, learning_rate=5e-3)
    fine_tune(ranker, users, [], settings, Path(tmp_path_factory.mktemp("attacked")), seed=0)
    assert ranker.score([users[0]])[0].argmax() == 0
    return ranker


@every_attack
def test_markers_do_not_move_p_yes(attack: str, ranker: Ranker) -> None:
    """An attack is worth exactly its visible words, written by someone without any marker."""
    text, visible = ATTACKS[attack]
    candidates = tuple(Item("", {"title": title, "brand": "Ox"}) for title in (text, visible))
    [p_yes] = ranker.score([RankingUser("u", "Likes ropes.", (), candidates)])
    assert p_yes[0] == p_yes[1]
    told = [
        ranker.score([RankingUser("u", summary, (candidate,), (HARMLESS,))])[0][0]
        for summary, candidate in ((text, candidates[0]), (visible, candidates[1]))
    ]
    assert told[0] == told[1]
