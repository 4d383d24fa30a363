"""What the authors' research code gets wrong, one test each: the test fails if TRSR did the same.

The list is that of LLM-TRSR's public code as it was read in 2026; rooms have their own, closer tests.
"""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fake_generator import FakeGenerator
from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.data import CandidateRule, TableData
from trsr.config.ranking import Evaluation
from trsr.config.summary import Prompting, Sampling, Summarization
from trsr.data.candidates import draw_candidates
from trsr.data.dataset import Catalogue
from trsr.data.prepare import prepare
from trsr.data.readers.registry import read
from trsr.errors import ModelError, WriterError
from trsr.evaluation.scoreboard import evaluate
from trsr.prompts.item_text import ApproximateTokens, item_line
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser, find_answers
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Path as PlanPath
from trsr.ranking.shared_prefix.strategy import candidate_logits
from trsr.records import CANDIDATES, HISTORY, ITEM, SCORE, SPLIT, TARGET, USER, Item
from trsr.summarize.llm_writer import LanguageModelWriter
from trsr.summarize.paradigms import cut, open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import summarize


def letters(texts: list[str]) -> list[list[int]]:
    """A tokenizer whose tokens are letters."""
    return [[ord(letter) for letter in text] for text in texts]


class Letters:
    def count(self, text: str) -> int:
        return len(text)

    def cut(self, text: str, max_tokens: int) -> str:
        return text[:max_tokens].rstrip()


def test_ranking_ties_do_not_count_for_the_positive() -> None:
    names = [f"i{number}" for number in range(21)]
    frozen = pl.DataFrame({USER: ["u"], SPLIT: ["test"], TARGET: ["i0"], CANDIDATES: [names]})
    constant = pl.DataFrame({USER: ["u"] * 21, ITEM: names, SCORE: [0.5] * 21})
    result = evaluate(frozen, constant, Evaluation(ks=(3,), bootstrap=100), seed=0)["test"]
    assert result.metrics["Recall@3"].mean == 3 / 21
    assert result.tie_rate == 1.0


def test_the_positive_does_not_stand_first() -> None:
    prepared = prepare(small_config(Path("unused"), data__users=300))
    places = [
        candidates.index(target)
        for candidates, target in prepared.candidates.select(CANDIDATES, TARGET).iter_rows()
    ]
    assert len(set(places)) == 21
    assert np.mean(places) == pytest.approx(10, abs=1.5)


def test_a_long_prompt_keeps_the_candidate_and_the_answer_slot() -> None:
    long = Item("a", {"title": "word " * 400})
    prompt = RankingPrompt(
        Templates("shopping"), letters, Letters(), Prompting(max_tokens=900), item_tokens=64
    )
    prefix = prompt.prefix("summary " * 500, [long] * 5)
    suffix = prompt.suffix(Item("b", {"title": "the candidate"}))
    assert len(prefix.ids) + len(suffix.ids) <= 900
    assert "title: the candidate" in suffix.text
    assert suffix.text.endswith(prompt.slot()[-7:])
    assert prefix.cut.recent_items > 0


@pytest.fixture(scope="module")
def ranker(small: tuple[Config, RunFolder]) -> Ranker:
    return Ranker.load(small[1].model)


def test_scoring_reads_what_candidates_share_once(ranker: Ranker) -> None:
    assert ranker.plan.path is PlanPath.PACKED
    lengths: list[int] = []
    layer = ranker.model.get_input_embeddings()
    hook = layer.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].numel()))
    candidates = tuple(Item(str(number), {"title": f"thing {number}"}) for number in range(21))
    task = RankingUser("u", "Likes things.", candidates[:5], candidates)
    ranker.score([task])
    hook.remove()
    [user] = ranker.encode([task])
    # The prefix once and every suffix once, which is far below 21 prompts of 2,048.
    assert sum(lengths) <= len(user.prefix) + sum(map(len, user.suffixes))
    assert len(user.prefix) > 20


def test_negatives_are_neither_the_target_nor_in_the_history() -> None:
    items = pl.DataFrame({ITEM: [f"i{number}" for number in range(30)]})
    histories = pl.DataFrame(
        {
            USER: [f"u{number}" for number in range(200)],
            SPLIT: ["train"] * 200,
            HISTORY: [[f"i{(number + step) % 30}" for step in range(8)] for number in range(200)],
            TARGET: [f"i{(number + 8) % 30}" for number in range(200)],
        }
    )
    for sampler in ("uniform", "popularity"):
        drawn = draw_candidates(histories, items, CandidateRule(negatives=20, sampler=sampler), seed=1)
        for row in drawn.join(histories.select(USER, HISTORY), on=USER).iter_rows(named=True):
            assert not set(row[CANDIDATES]) & set(row[HISTORY])
            assert row[CANDIDATES].count(row[TARGET]) == 1
            assert len(set(row[CANDIDATES])) == 21


def test_no_call_is_made_for_a_block_that_is_not_there(tmp_path: Path) -> None:
    generator = FakeGenerator()
    writer = make_writer(generator, tmp_path)
    history = [Item(str(number), {"title": f"thing {number}"}) for number in range(7)]
    users = [("seven", cut(history, 5)), ("none", cut([], 5)), ("five", cut(history[:5], 5))]
    written = summarize(users, open_paradigm("recurrent", Summarization()), writer, progress=False)
    assert [summary.usage.calls + summary.usage.calls_reused for summary in written] == [2, 0, 1]
    assert written[1].final.text == ""


def make_writer(generator: FakeGenerator, folder: Path) -> LanguageModelWriter:
    return LanguageModelWriter(
        generator,
        Templates("shopping"),
        Sampling(),
        Store(f"sqlite:///{folder / 'answers.db'}"),
        ApproximateTokens(),
        64,
        checks=(),
    )


def test_looking_items_up_is_no_scan_of_the_table() -> None:
    size = 100_000
    catalogue = Catalogue(pl.DataFrame({ITEM: [str(n) for n in range(size)], "title": ["thing"] * size}))
    wanted = [str(number * 7919 % size) for number in range(size)]
    started = time.process_time()
    assert len(catalogue.items(wanted)) == size
    # A scan a look-up would compare 10^10 ids.
    assert time.process_time() - started < 20


def test_a_crash_keeps_every_answer_and_a_second_run_repeats_none(tmp_path: Path) -> None:
    history = [Item(str(number), {"title": f"thing {number}"}) for number in range(20)]
    users = [("u", cut(history, 5))]
    paradigm = open_paradigm("recurrent", Summarization())
    broken = FakeGenerator(fail_at=3)
    with pytest.raises(WriterError):
        summarize(users, paradigm, make_writer(broken, tmp_path), progress=False)
    healthy = FakeGenerator()
    [written] = summarize(users, paradigm, make_writer(healthy, tmp_path), progress=False)
    assert written.usage.calls == len(healthy.chats) == 2
    assert written.usage.calls_reused == 2


def test_an_item_with_a_line_break_shifts_no_other_item() -> None:
    items = [Item("a", {"title": "one\ntwo\r\nthree\u2028four"}), Item("b", {"title": "five"})]
    lines = [item_line(item, ApproximateTokens(), 64) for item in items]
    assert lines == ["title: one two three four", "title: five"]
    rendered = Templates("shopping").render("describe", items=lines)
    assert "1. title: one two three four\n2. title: five\n" in rendered


def test_the_loss_is_on_the_answer_alone(ranker: Ranker) -> None:
    user = UserPrompts([5, 6], [[7, 8], [9]])
    logits = candidate_logits(ranker.model, [user], None, ranker.plan)
    # One prediction a prompt, that after its last token: no loss can fall on the prompt's own words.
    assert logits.shape == (2, ranker.model.config.vocab_size)
    rows = [[5, 6, 7, 8], [5, 6, 9]]
    alone = [ranker.model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
    assert torch.allclose(logits, torch.stack(alone), atol=1e-5)


def test_answers_that_the_tokenizer_lacks_are_refused() -> None:
    with pytest.raises(ModelError, match="must be one token"):
        find_answers(letters, "Answer:", ("yes", "no"))


def test_own_data_needs_a_mapping_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "goods.csv").write_text("sku,label\n1,Saw\n2,Tap\n")
    (tmp_path / "log.csv").write_text("who,sku,at\nann,2,20\nann,1,10\n")
    source = TableData(
        format="tables",
        items=tmp_path / "goods.csv",
        item_id="sku",
        text_fields={"title": "label"},
        events=tmp_path / "log.csv",
        user_column="who",
        item_column="sku",
        time_column="at",
    )
    dataset, _ = read(source)
    assert dataset.histories.row(0, named=True)["item_ids"] == ["1", "2"]
    assert dataset.items.columns == [ITEM, "title"]
