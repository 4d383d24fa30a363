"""Captions as a step of a run: paid once, billed, capped, told; and the controls of what they are worth."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from counting_server import CountingServer
from fake_generator import FakeGenerator
from small_run import small_config
from trsr.artifacts import RunFolder, read_parquet
from trsr.baselines.base import open_baseline, score_places
from trsr.baselines.training_data import training_data
from trsr.config import Config
from trsr.data.dataset import Catalogue
from trsr.data.prepare import Prepared, read_items
from trsr.errors import BudgetError, ConfigError, WriterError
from trsr.experiments.variants import form
from trsr.pipeline import run
from trsr.records import CANDIDATES, HISTORY, TARGET
from trsr.stages.caption import caption, plan_captions
from trsr.stages.prepare import prepare
from trsr.stages.work import Work
from trsr.summarize.summarizer import Summarizer
from vision_server import COLOURS, answer_prompt, draw, vision_server


@pytest.fixture(scope="module")
def vision() -> Iterator[CountingServer]:
    with vision_server() as server:
        yield server


@pytest.fixture
def server(vision: CountingServer) -> CountingServer:
    vision.asked.clear()
    vision.say, vision.tells_usage = answer_prompt, True
    return vision


ITEMS, TASTES = 56, 4


def make_shop(folder: Path, seed: int = 0, users: int = 48) -> None:
    """Write a shop whose pictures tell the taste: colour. Titles come from a pool that knows no colour.

    Half of the items are taken in histories, the others are targets and negatives alone.
    """
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    colour = np.arange(ITEMS) % TASTES
    rows = []
    for item in range(ITEMS):
        at = tuple(int(place) for place in rng.integers(11, 21, size=2))
        shape = ("circle", "square", "triangle")[int(rng.integers(3))]
        draw(COLOURS[colour[item]], shape, at=at).save(folder / "pictures" / f"{item}.png")
        rows.append({"item_id": f"i{item}", "title": f"thing {rng.integers(8)}", "image": f"{item}.png"})
    pl.DataFrame(rows).write_csv(folder / "items.csv")
    histories = []
    for user in range(users):
        liked = np.flatnonzero(colour == user % TASTES)
        old, new = liked[liked < ITEMS // 2], liked[liked >= ITEMS // 2]
        taken = [*rng.choice(old, size=6, replace=False), rng.choice(new)]
        histories.append({"user_id": f"u{user}", "item_ids": [f"i{item}" for item in taken]})
    pl.DataFrame(histories).write_parquet(folder / "histories.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    make_shop(folder)
    return folder


def configure(out: Path, shop: Path, server: CountingServer, **overrides: Any) -> Config:
    """Settings of a run in `out`; captions are kept beside the shop, so that all tests pay for them once."""
    captioner = {"kind": "endpoint", "base_url": server.base_url, "model": "pixels", "concurrency": 4}
    data = {"format": "tables", "items": shop / "items.csv", "histories": shop / "histories.parquet"}
    settings = {
        "images": {"captioner": captioner, "folder": shop / "pictures"},
        "summary__store": f"sqlite:///{shop / 'answers.db'}",
        "history__min": 5,
        "candidates__negatives": 20,
    }
    return small_config(out / "run", data=data, **settings | overrides)


def work_on(config: Config) -> tuple[Prepared, list[str]]:
    said: list[str] = []
    work = Work(config, RunFolder(config.folder), said.append)
    return caption(work, prepare(work)).value, said


def test_pictures_become_a_text_field_and_are_paid_once(
    tmp_path: Path, shop: Path, server: CountingServer
) -> None:
    config = configure(tmp_path, shop, server, images__captioner__model="new")
    folder = run(config, until="prepare", say=lambda line: None)
    [planned], shown = plan_captions(config, folder, read_parquet(folder.items))
    distinct = {path.read_bytes() for path in (shop / "pictures").iterdir()}
    assert not server.asked  # a plan pays for nothing
    assert planned.bill.calls == len(distinct)
    assert planned.bill.money is None
    assert "shared" not in shown.columns
    prepared, said = work_on(config)
    assert server.asked.total() == len(server.asked) == planned.bill.calls
    assert prepared.items.columns == ["item_id", "title", "caption"]
    words = prepared.items["caption"].str.split(" ").list.get(4).to_list()
    assert words == [COLOURS[item % TASTES] for item in range(ITEMS)]
    assert any("56 of 56 items have a caption" in line for line in said)
    bill = json.loads((folder.path / "captions_bill.json").read_text())
    assert bill["finished"]
    assert bill["actual"]["calls"] == planned.bill.calls
    assert bill["actual"]["prompt_tokens"] > 100 * planned.bill.calls
    table = read_parquet(folder.captions)
    assert table.columns == ["item_id", "image_sha256", "caption", "failed"]
    again, said = work_on(config)
    assert said[-1] == "caption: complete, skipped"
    assert again.items.equals(prepared.items)
    # Another folder, the same store: no call.
    elsewhere, _ = work_on(config.model_copy(update={"out": tmp_path / "other"}))
    assert elsewhere.items.equals(prepared.items)
    assert server.asked.total() == planned.bill.calls
    [free], known = plan_captions(config, folder, read_parquet(folder.items))
    assert (free.bill.calls, free.bill.calls_reused, free.bill.money) == (0, planned.bill.calls, 0.0)
    assert known.equals(prepared.items)
    assert read_items(folder).equals(prepared.items)
    # Without the section the items are those of the data again.
    plain, _ = work_on(config.model_copy(update={"images": None}))
    assert plain.items.columns == ["item_id", "title", "image"]
    assert not folder.captioned.exists()


def test_a_changed_picture_alone_is_asked_for_and_a_bad_one_keeps_its_item(
    tmp_path: Path, server: CountingServer
) -> None:
    make_shop(tmp_path / "shop", users=24)
    config = configure(tmp_path, tmp_path / "shop", server)
    first, _ = work_on(config)
    server.asked.clear()
    pictures = tmp_path / "shop" / "pictures"
    draw("purple", "square").save(pictures / "0.png")
    (pictures / "1.png").unlink()
    (pictures / "2.png").write_bytes((pictures / "2.png").read_bytes()[:60])
    prepared, said = work_on(config)
    assert server.asked.total() == 1
    captions = prepared.items["caption"].to_list()
    assert captions[0] == "The picture shows one purple square on a white ground."
    assert captions[1:3] == ["", ""]
    assert captions[3:] == first.items["caption"].to_list()[3:]
    assert prepared.candidates.equals(first.candidates)
    assert prepared.candidates[CANDIDATES].list.len().unique().to_list() == [21]
    counts = {finding.rule: finding.count for finding in prepared.findings}
    assert (counts["missing-image"], counts["broken-image"]) == (1, 1)
    assert any("1 items name an image that is not there" in line for line in said)


def test_a_cap_holds_for_captions_and_summaries_together(
    tmp_path: Path, shop: Path, server: CountingServer
) -> None:
    writer = {"kind": "endpoint", "base_url": server.base_url, "model": "words"}
    settings = {"summary__writer": writer, "summary__limits": {"max_calls": 60}}
    config = configure(tmp_path, shop, server, images__captioner__model="capped", **settings)
    server.say = lambda prompt: (
        answer_prompt(prompt) if "image_url" in prompt else "They like red things and round ones."
    )
    with pytest.raises(BudgetError, match="--max-calls"):
        run(config, until="summarize", say=lambda line: None)
    assert server.asked.total() == 60
    tight = configure(
        tmp_path, shop, server, summary__limits={"max_calls": 3}, images__captioner__model="tight"
    )
    with pytest.raises(BudgetError, match=r"max_calls 3\)"):
        work_on(tight)
    assert server.asked.total() == 63
    priceless = configure(
        tmp_path, shop, server, summary__limits={"max_cost": 3.0}, images__captioner__model="dear"
    )
    with pytest.raises(ConfigError, match=r"summary\.limits\.max_cost needs a price: set images\.price"):
        work_on(priceless)


def test_useless_captions_are_asked_again_and_told(
    tmp_path: Path, shop: Path, server: CountingServer
) -> None:
    config = configure(tmp_path, shop, server, images__captioner__model="shy")
    refused = "I'm sorry, I can't help with that picture."
    server.say = lambda prompt: refused if "red circle" in answer_prompt(prompt) else answer_prompt(prompt)
    prepared, _ = work_on(config)
    failed = read_parquet(RunFolder(config.folder).captions).filter(pl.col("failed") != "")
    red = [
        row for row in failed["failed"] if row.startswith("refusal: the answer was a refusal (2 attempts)")
    ]
    assert len(red) == failed.height > 0
    [finding] = [finding for finding in prepared.findings if finding.rule == "caption-failed"]
    assert finding.count == failed.height
    server.say = lambda prompt: refused
    config = configure(tmp_path, shop, server, images__captioner__model="mute")
    with pytest.raises(WriterError, match=r"'refusal'.* leave 'refusal' out of images\.checks"):
        work_on(config)


def test_settings_that_can_not_be_are_told(tmp_path: Path, shop: Path, server: CountingServer) -> None:
    with pytest.raises(ConfigError, match=r"images\.field must be a new name, got 'title'"):
        work_on(configure(tmp_path, shop, server, images__field="title"))
    with pytest.raises(ConfigError, match="one currency, got EUR and USD"):
        configure(
            tmp_path, shop, server, images__price={"currency": "EUR"}, summary__limits={"max_cost": 1.0}
        )
    with pytest.raises(ConfigError, match="kind must be endpoint, local, or your own"):
        configure(tmp_path, shop, server, images__captioner={"kind": "psychic"})


class OwnCaptioner:
    """Somebody's own: it decodes the picture itself."""

    def __init__(self, config: Config, images: Any, budget: Any) -> None:
        self._fake = FakeGenerator(self._describe, identity="own@1")
        self.identity, self.style = self._fake.identity, "chat"
        self.session = self._fake.session

    @staticmethod
    def _describe(chat: Any) -> str:
        content = base64.b64encode(chat.image.encode().content)
        assert io.BytesIO(content).read(4)
        return f"A picture of {chat.image.width} by {chat.image.height} points."


def test_a_captioner_of_ones_own(tmp_path: Path, shop: Path, server: CountingServer) -> None:
    own = {"kind": f"{OwnCaptioner.__module__}:OwnCaptioner"}
    config = configure(tmp_path, shop, server, images__captioner=own, images__side=32)
    folder = run(config, until="prepare", say=lambda line: None)
    [planned], _ = plan_captions(config, folder, read_parquet(folder.items))
    assert planned.bill.calls is None
    prepared, _ = work_on(config)
    assert set(prepared.items["caption"]) == {"A picture of 32 by 32 points."}
    assert not server.asked


def auc(prepared: Prepared, field: str) -> float:
    """Rank held-out users' candidates, no target of them seen in a history, by likeness of one field."""
    system = open_baseline("tfidf", 0)
    system.fit(training_data(prepared, [field]))
    place = {item: row for row, item in enumerate(prepared.items["item_id"])}
    users = prepared.candidates["user_id"].to_list()
    histories = [np.array([place[item] for item in row]) for row in prepared.histories[HISTORY]]
    offered = np.array([[place[item] for item in row] for row in prepared.candidates[CANDIDATES]])
    is_target = offered == np.array([[place[item]] for item in prepared.candidates[TARGET]])
    scores = score_places(system, users, histories, offered)
    own, others = scores[is_target][:, None], scores[~is_target].reshape(len(users), -1)
    return float(((own > others) + 0.5 * (own == others)).mean())


def test_it_is_the_pictures_that_help(tmp_path: Path, shop: Path, server: CountingServer) -> None:
    config = configure(tmp_path, shop, server)
    prepared, _ = work_on(config)
    assert auc(prepared, "caption") >= 0.8
    assert 0.45 <= auc(prepared, "title") <= 0.55
    control = configure(tmp_path, shop, server, images__permuted=True)
    permuted, said = work_on(control)
    assert any("images.permuted" in line for line in said)
    assert sorted(permuted.items["caption"]) == sorted(prepared.items["caption"])
    assert 0.42 <= auc(permuted, "caption") <= 0.58


def test_the_state_of_a_summary_knows_the_first_block_and_never_the_target(
    tmp_path: Path, shop: Path, server: CountingServer
) -> None:
    config = configure(tmp_path, shop, server, items__fields=["title"])
    told = form(config, "mllm_msr").overrides
    assert told == {
        "summary.paradigm": "recurrent",
        "summary.block_size": 3,
        "prompt.recent_items": 0,
        "items.fields": ["title", "caption"],
    }
    prepared, _ = work_on(config)
    summary = config.summary.model_copy(update={"block_size": 3})
    shown = config.model_copy(update={"summary": summary})
    catalogue = Catalogue(prepared.items)
    history = list(prepared.histories[HISTORY][0])
    with Summarizer(shown, prepared.items) as summarizer:

        def write(items: list[str]) -> Any:
            return summarizer.summarize([("u", list(catalogue.items(items)))], progress=False)[0]

        own = write(history)
        assert len(own.steps) == 2
        first = catalogue.item(history[0]).fields["caption"].split()[4]
        texts = prepared.items["caption"]
        other = next(item for item, text in zip(catalogue.ids, texts, strict=True) if first not in text)
        changed = write([other, other, other, *history[3:]])
        assert changed.final.text != own.final.text
        assert prepared.histories[TARGET][0] not in history
        assert write(history).final == own.final
