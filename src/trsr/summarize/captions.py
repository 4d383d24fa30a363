"""Descriptions of images, asked for, stored and paid for as summaries are: each image once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.config import Config
from trsr.config.images import EndpointCaptioner, Images, LocalCaptioner, OwnCaptioner
from trsr.data.images import ItemImage
from trsr.errors import ConfigError, WriterError
from trsr.hf.loading import served_identity
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import ApproximateChatTokens, Chat, TextGenerator
from trsr.llm.local_images import LocalImageGenerator, identify_captioner
from trsr.progress import Progress
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import ITEM, Summary, Usage
from trsr.registry import CAPTIONERS, find_part
from trsr.summarize.checks import Asked, Verdict
from trsr.summarize.cost import Bill, Budget
from trsr.summarize.forecast import Forecast, Planner, learn
from trsr.summarize.llm_writer import LanguageModelWriter, PromptWriter, Shown, Wording
from trsr.summarize.purchases import finish, work_through
from trsr.summarize.sections import Profile
from trsr.summarize.store import Question, Store
from trsr.summarize.writer import Unwritten

CAPTION: Final = "caption"
"""The template of the prompt, and the verb under which its answers are stored."""
_UNDER_WAY: Final = 1024
_AHEAD: Final = 8
"""Images that a model in this process has ready."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What became of one image: its text, or why it has none."""

    text: str
    failed: str = ""


class CaptionWording(Wording):
    """Words the question about an image: the same for all, so that an equal image is paid once."""

    def __init__(self, model: str, templates: Templates, sampling: Any, *_: object) -> None:
        self.sampling = sampling
        self._model = model
        self._templates = templates
        self._version = template_version(templates)
        self._prompt = templates.render(CAPTION).strip()

    def question(
        self, verb: str, summaries: Sequence[Summary], shown: Shown, profile: Profile | None = None
    ) -> Question:
        """Ask what an image shows."""
        assert isinstance(shown, ItemImage)
        return Question(self._model, self.sampling, Chat(self._prompt, image=shown), self._version)

    def asked(self, verb: str, summaries: Sequence[Summary], block: Shown, question: Question) -> Asked:
        """Hold the answer against the prompt alone: what the image shows can't be checked here."""
        return Asked(self._prompt, self._prompt, self.sampling.max_new_tokens)

    def repair(self, first: Question, attempt: int, verdict: Verdict, verb: str = "") -> Question:
        """Ask once more; the remedies are worded for summaries."""
        remedy = verdict.remedy.replace("summary", "description").replace("given text", "picture")
        return super().repair(first, attempt, replace(verdict, remedy=remedy))


def template_version(templates: Templates) -> str:
    """Name the version of the prompt; part of the key of its answers."""
    return f"{CAPTION} {templates.version(CAPTION)}"


def open_captioner(config: Config, images: Images, budget: Budget) -> TextGenerator:
    """Make what answers chats with an image: a built-in one, or anybody's own.

    An own class (or function) is called with these three as keywords, and gives a
    `trsr.llm.generator.TextGenerator`; `Chat.image` has the image, to be read by ``decode()`` or
    ``encode()``. Its `identity` is part of the key under which captions are stored.

    Raises
    ------
    ConfigError
        When there is no such captioner.
    ModelError
        When its model can't be loaded.
    """
    made: Any = find_part("captioner", images.captioner.kind, CAPTIONERS)
    generator: TextGenerator = made(config=config, images=images, budget=budget)
    return generator


def open_endpoint(config: Config, images: Images, budget: Budget) -> EndpointGenerator:
    """Make the captioner behind a server."""
    assert isinstance(images.captioner, EndpointCaptioner)
    return EndpointGenerator(images.captioner, budget)


def open_local(config: Config, images: Images, budget: Budget) -> LocalImageGenerator:
    """Make the captioner in this process."""
    assert isinstance(images.captioner, LocalCaptioner)
    return LocalImageGenerator(images.captioner)


def write_captions(
    config: Config, images: Images, found: Iterable[ItemImage], budget: Budget
) -> dict[str, Caption]:
    """Describe every image that isn't described in the store; return the captions by `ItemImage.key`.

    Raises WriterError when the captioner gives up, or nearly all of its first answers are useless;
    BudgetError at the cap on calls or money. What was paid for is stored by then.
    """
    distinct = {image.key: image for image in found}
    store = Store(config.store_url)
    try:
        writer = LanguageModelWriter(
            open_captioner(config, images, budget),
            Templates(config.prompt.domain, config.prompt.templates),
            images.sampling,
            store,
            ApproximateTokens(),
            item_tokens=0,
            checks=images.checks,
            ahead=2 * getattr(images.captioner, "concurrency", _AHEAD),
            budget=budget,
            words=CaptionWording,
        )
        with Progress("captions", len(distinct), "images") as bar:
            captions = finish(_in_session(writer, [*distinct.values()], bar))
    except WriterError as error:  # it speaks of the settings of summaries
        told = str(error).replace("set summary.writer.style to the other one of chat and examples, ", "")
        told = told.replace("summary.writer", "images.captioner").replace("summary.", "images.")
        raise WriterError(told, retryable=error.retryable) from error
    finally:
        store.close()
    reused = sum(usage.calls_reused for _, usage in captions.values())
    budget.spend(Usage(), Usage(calls_reused=reused))
    return {key: caption for key, (caption, _) in captions.items()}


async def _in_session(
    writer: LanguageModelWriter, found: Sequence[ItemImage], bar: Progress
) -> dict[str, tuple[Caption, Usage]]:
    async with writer.session() as session:
        return await _describe(session, found, bar.advance)


async def _describe(
    session: PromptWriter, found: Sequence[ItemImage], advance: Callable[[], object]
) -> dict[str, tuple[Caption, Usage]]:
    written: dict[str, tuple[Caption, Usage]] = {}

    async def work(image: ItemImage) -> None:
        written[image.key] = await _one(session.caption(image))
        advance()

    await work_through(found, work, min(_UNDER_WAY, len(found)))
    return written


async def _one(caption: Awaitable[Summary]) -> tuple[Caption, Usage]:
    try:
        summary = await caption
    except Unwritten as error:
        return Caption("", error.reason), error.usage
    return Caption(summary.text), summary.usage


def forecast_captions(
    config: Config, images: Images, found: Iterable[ItemImage]
) -> tuple[Forecast, dict[str, Caption]]:
    """Count the calls that captions need; give, too, those that are stored, and stand-ins for the others.

    Nothing is opened and nothing paid. A stand-in is of the length that a caption is expected to have.
    Raises StoreError when the store can't be read, ModelError when the model can't be found.
    """
    captioner, price = images.captioner, images.price
    distinct = {image.key: image for image in found}
    if isinstance(captioner, OwnCaptioner):
        basis = f"What {captioner.kind}, a captioner of your own, calls and costs is not known beforehand."
        unknown = Bill("captions", None, 0, None, None, None, None, price.currency)
        return Forecast(unknown, basis), {key: Caption(_stand_in(key, images, None)) for key in distinct}
    model = identity_of(captioner)
    tokens = ApproximateChatTokens()
    wording = CaptionWording(model, Templates(config.prompt.domain, config.prompt.templates), images.sampling)
    with Store(config.store_url) as store:
        experience = learn(store, model, tokens, images.sampling, verbs=(CAPTION,))
        planner = Planner(wording, store, images.checks, tokens, experience)
        planned = finish(_describe(planner, [*distinct.values()], lambda: None))
    length = experience.lengths.get(CAPTION)
    known = {
        key: Caption(_stand_in(key, images, length)) if usage.calls else caption
        for key, (caption, usage) in planned.items()
    }
    reused = sum(usage.calls_reused for _, usage in planned.values())
    bill = Bill.of("captions", planner.paid, reused, None if planner.paid.calls else 0.0, price)
    return Forecast(bill, _basis(experience.seen, experience.error, images)), known


def identity_of(captioner: EndpointCaptioner | LocalCaptioner) -> str:
    """Name the model that describes images, without opening it."""
    if isinstance(captioner, LocalCaptioner):
        return identify_captioner(captioner)
    return served_identity(captioner)


def _stand_in(key: str, images: Images, length: float | None) -> str:
    """Write so many words that no other caption has the same."""
    words = round(length if length is not None else images.sampling.max_new_tokens)
    return " ".join([key.split()[1][:12], *["caption"] * max(1, words - 1)])


def _basis(seen: int, error: float | None, images: Images) -> str:
    if error is None:
        told = "An image counts as the most that common models make of it, until the first answers tell."
    else:
        told = f"Images count as {seen:,} stored prompts did; a single one is {error:.0%} off on average."
    length = (
        f"Captions are taken to be as long as {seen:,} stored ones."
        if seen
        else "No caption of this model is stored yet: each is taken to be "
        f"{images.sampling.max_new_tokens:,} tokens, the limit."
    )
    return f"{told} {length}"


def filled(
    items: pl.DataFrame,
    images: Images,
    found: Mapping[str, ItemImage],
    captions: Mapping[str, Caption],
    seed: int,
) -> pl.DataFrame:
    """Put captions into the place of the column that names images; an item without one has an empty text.

    With `images.permuted` every item that has a caption gets that of another one; which, the seed decides.
    """
    texts = {item: captions[image.key].text for item, image in found.items()}
    if images.permuted:
        having = [item for item in sorted(texts) if texts[item]]
        order = [having[place] for place in np.random.default_rng(seed).permutation(len(having))]
        # One further along a drawn circle: nobody keeps their own.
        texts |= {item: texts[other] for item, other in zip(order, order[1:] + order[:1], strict=True)}
    field = pl.Series(images.field, [texts.get(item, "") for item in items[ITEM]], dtype=pl.String)
    names = [images.field if name == images.column else name for name in items.columns]
    return items.drop(images.column).with_columns(field).select(names)


def check_field(items: pl.DataFrame, images: Images) -> None:
    """Raise ConfigError when the field to be filled is one of the data's own."""
    if images.field in items.columns and images.field != images.column:
        message = (
            f"images.field must be a new name, got {images.field!r}, which the items have; give another one"
        )
        raise ConfigError(message)
