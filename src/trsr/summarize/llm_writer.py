"""Summaries by a language model: prompts out, answers in, every answer stored before it counts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from trsr.config import Config
from trsr.config.summary import Check, EndpointWriter, LocalWriter, Sampling
from trsr.data.images import ItemImage
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import Chat, Completion, TextGenerator, Unanswered
from trsr.llm.local import LocalGenerator
from trsr.prompts.item_text import ApproximateTokens, Tokens, item_line, neutralise
from trsr.prompts.templates import Templates
from trsr.records import Block, Summary, Usage
from trsr.summarize.checks import Asked, FirstAnswers, Verdict, first_line, judge, read_answer
from trsr.summarize.cost import Budget, charge
from trsr.summarize.purchases import Purchases, purchases
from trsr.summarize.sections import SECTIONS, Profile, judge_edits, read_edit_answer
from trsr.summarize.store import Question, Store
from trsr.summarize.writer import Unwritten

VERBS: Final = ("describe", "update", "combine", "edit")
"""The templates of the verbs."""
STYLES: Final = ("chat", "examples")
"""How prompts can be worded."""

_WORDS_A_TOKEN: Final = 0.5
"""Asked for where an answer was useless: shorter than what fits, so that the next one ends by itself."""
_ALL_AT_ONCE: Final = 4096
"""Prompts that a model in this process is shown at once, to sort them by length."""


Shown = Block | ItemImage | None
"""What a prompt shows beside summaries."""


class Wording:
    """Words what is asked as questions to `model`, a generator's identity; cuts lines at `item_tokens`.

    `style` is `chat` for instructions, or `examples`: one template of worked examples for all verbs but
    `edit`, which has its own; all prompts share its beginning, and the model goes on with it.
    """

    def __init__(
        self,
        model: str,
        templates: Templates,
        sampling: Sampling,
        tokens: Tokens,
        item_tokens: int,
        style: str = "chat",
    ) -> None:
        self.sampling = sampling
        self._model = model
        self._templates = templates
        self._tokens = tokens
        self._item_tokens = item_tokens
        self._by_examples = style == "examples"
        self._system = "" if self._by_examples else templates.render("system").strip()
        self._versions = {verb: template_versions(templates, verb, style) for verb in VERBS}
        # Without anything filled in: the language that answers must be in.
        self._instructions = {verb: self._render(verb, (), ()) for verb in VERBS}

    def question(
        self, verb: str, summaries: Sequence[Summary], shown: Shown, profile: Profile | None = None
    ) -> Question:
        """Render a prompt; summaries in it are neutralised like any text of others, as notes are already."""
        items = shown.items if isinstance(shown, Block) else ()
        lines = [item_line(item, self._tokens, self._item_tokens) for item in items]
        text = self._render(verb, [neutralise(each.text) for each in summaries], lines, profile)
        chat = Chat(text, self._system, self._by_examples)
        return Question(self._model, self.sampling, chat, self._versions[verb])

    def asked(self, verb: str, summaries: Sequence[Summary], block: Shown, question: Question) -> Asked:
        """Gather what the answers are held against; summaries in the prompt may be repeated."""
        shown = question.chat.user
        for summary in summaries:
            shown = shown.replace(neutralise(summary.text), "")
        items = block.items if isinstance(block, Block) else ()
        told = (*(value for item in items for value in item.fields.values()), *(s.text for s in summaries))
        return Asked(self._instructions[verb], shown, self.sampling.max_new_tokens, "\n".join(told))

    def repair(self, first: Question, attempt: int, verdict: Verdict, verb: str = "") -> Question:
        """Word an attempt after the first: the same prompt, and what was wrong with the answer before."""
        name = "edit_repair" if verb == "edit" else "repair"
        if first.chat.is_continued:  # what goes on with a text takes no orders: the examples change places
            head, *examples, last = first.chat.user.split("\n\n")
            turn = attempt % max(1, len(examples))
            turned = examples[turn:] + examples[:turn]
            text = "\n\n".join([f"{head} ({attempt + 1})", *turned, last])
            return replace(first, chat=replace(first.chat, user=text))
        words = max(10, round(_WORDS_A_TOKEN * self.sampling.max_new_tokens))
        note = self._templates.render(
            name, attempt=attempt, fault=verdict.fault, remedy=verdict.remedy, words=words
        ).strip()
        chat = replace(first.chat, user=f"{first.chat.user}\n\n{note}")
        version = self._templates.version(name)
        return replace(first, chat=chat, template=f"{first.template} repair {version}")

    def _render(
        self,
        verb: str,
        summaries: Sequence[str],
        lines: Sequence[str],
        profile: Profile | None = None,
    ) -> str:
        if verb == "edit":
            name = "edit_examples" if self._by_examples else "edit"
            return self._templates.render(name, sections=_listed(profile or Profile()), items=lines).strip()
        if self._by_examples:
            all_of_them = {"summaries": summaries, "summary": "".join(summaries), "items": lines}
            return self._templates.render("examples", verb=verb, **all_of_them).strip()
        filled: dict[str, Any] = {"items": lines} if verb != "combine" else {"summaries": summaries}
        if verb == "update":
            filled["summary"] = "".join(summaries)
        return self._templates.render(verb, **filled).strip()


def _listed(profile: Profile) -> list[dict[str, Any]]:
    """Lay out a profile for a template: each section's key and meaning, and its notes with their numbers."""
    return [
        {
            "key": key,
            "meaning": section.meaning,
            "notes": [{"number": note.number, "text": note.text} for note in profile.of(key)],
        }
        for key, section in SECTIONS.items()
    ]


def template_versions(templates: Templates, verb: str, style: str = "chat") -> str:
    """Name the versions of all templates that word a verb; part of the key of its answers."""
    if style == "examples" and verb == "edit":
        return f"edit_examples {templates.version('edit_examples')} edit by examples"
    if style == "examples":
        return f"examples {templates.version('examples')} {verb} by examples"
    return " ".join(f"{name} {templates.version(name)}" for name in ("system", verb))


@dataclass(slots=True, eq=False)
class Inquiry:
    """A distinct prompt, who asked for it, and what came back so far.

    Attempt 0 is the prompt as it is worded; every later one adds a sentence that says how many answers could
    not be used, and why the last one couldn't. So every attempt is a question of its own in the store, and a
    useless answer is kept, never asked for or paid for again, and never served. A run asks at most two
    attempts: the one after the useless answers it found in the store, and one more where that makes a pair.

    Where a `profile` is to be edited, answers are edits of it. `said` is the last answer, and `text` the
    summary: the answer that is of use. `users` are those whose text the prompt holds, `keys` the questions
    that were answered. `question` is the present attempt, and `unanswered` says why it got no answer at all.
    `usage` is that of all attempts so far, of this run and of earlier ones. `is_elsewhere` while another
    process is at it; `over` when it ended.
    """

    first: Question
    asked: Asked
    verb: str
    summaries: Sequence[Summary]
    users: set[str]
    profile: Profile | None = None
    question: Question = field(init=False)
    text: str = ""
    said: str = ""
    verdict: Verdict | None = None
    attempt: int = 0
    usage: Usage = field(default=Usage())
    unanswered: str = ""
    keys: list[str] = field(default_factory=list)
    is_elsewhere: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _last: int | None = None

    def __post_init__(self) -> None:
        self.question = self.first

    @property
    def is_over(self) -> bool:
        """Whether this run makes no other attempt."""
        no_more = self._last is not None and self.attempt > self._last
        return bool(self.text) or bool(self.unanswered) or no_more

    def take(
        self, completion: Completion, wording: Wording, checks: Collection[Check], *, paid_now: bool
    ) -> None:
        """Judge the answer to the present attempt; where it is useless, word the next one."""
        self.keys.append(self.question.key)
        if paid_now and self._last is None:
            self._last = self.attempt | 1
        told = charge(completion, otherwise=Usage())
        self.usage += replace(told, calls=int(paid_now), calls_reused=int(not paid_now))
        if self.first.chat.is_continued:
            completion = first_line(completion)
        if self.profile is None:
            self.said = read_answer(completion, is_line=self.first.chat.is_continued)
            self.verdict = judge(self.said, completion, self.asked, checks)
        else:
            self.said = read_edit_answer(completion)
            self.verdict = judge_edits(self.said, self.profile, completion, self.asked, checks)
        if self.verdict is None:
            self.text = self.said
            return
        self.attempt += 1
        self.question = wording.repair(self.first, self.attempt, self.verdict, self.verb)

    def failure(self) -> str:
        """Say why there is no summary."""
        if self.unanswered:
            return f"unanswered: {self.unanswered}"
        if self.verdict is None:
            return ""
        hint = f"; {self.verdict.hint}" if self.verdict.hint else ""
        return f"{self.verdict.check}: the answer {self.verdict.fault} ({self.attempt} attempts){hint}"


class PromptWriter(ABC):
    """Words the verbs as prompts and follows each to its answer; equal ones at a time are one inquiry.

    `checks` is what makes an answer useless.
    """

    def __init__(self, name: str, wording: Wording, checks: Collection[Check]) -> None:
        self.name = name
        self._wording = wording
        self._checks = checks
        self._open: dict[str, Inquiry] = {}
        self._failed: dict[str, Inquiry] = {}

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        """Summarise one block alone."""
        return await self._write("describe", (), block, user)

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        """Bring a summary up to date with the next block."""
        return await self._write("update", (summary,), block, user)

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        """Join summaries, oldest first, into one."""
        return await self._write("combine", summaries, None, user)

    async def edit(self, profile: Profile, block: Block, *, user: str = "") -> Summary:
        """Say by edits what the next block changes in a profile."""
        notes = [Summary(note.text) for note in profile.standing]
        return await self._write("edit", notes, block, user, profile)

    @abstractmethod
    async def _advance(self, inquiry: Inquiry) -> None:
        """Bring an inquiry one answer further."""

    async def _tie(self, keys: Sequence[str], users: Collection[str]) -> None:  # noqa: B027  none need it
        """Note of stored answers that they hold the text of further users."""

    async def caption(self, image: ItemImage) -> Summary:
        """Describe an image, by a wording of images; it holds the text of no user."""
        return await self._write("caption", (), image, "")

    async def _write(
        self,
        verb: str,
        summaries: Sequence[Summary],
        shown: Shown,
        user: str,
        profile: Profile | None = None,
    ) -> Summary:
        question = self._wording.question(verb, summaries, shown, profile)
        key = question.key
        while (inquiry := self._open.get(key)) is not None:
            inquiry.users.add(user)
            await inquiry.over.wait()
            if inquiry.is_over:  # the first who asked bears the calls, to the others they are reused
                calls = inquiry.usage.calls + inquiry.usage.calls_reused
                return self._end(inquiry, replace(inquiry.usage, calls=0, calls_reused=calls))
        asked = self._wording.asked(verb, summaries, shown, question)
        inquiry = self._open[key] = Inquiry(question, asked, verb, summaries, {user}, profile)
        try:
            while not inquiry.is_over and key not in self._failed:
                await self._advance(inquiry)
            del self._open[key]  # who asks from now on finds the answers in the store
            known = self._failed.get(key, inquiry)
            if len(inquiry.users) > 1 or known is not inquiry:  # those who came after an answer was stored
                await self._tie(known.keys, inquiry.users)
        finally:
            self._open.pop(key, None)
            inquiry.over.set()
        return self._end(inquiry, inquiry.usage)

    def _end(self, inquiry: Inquiry, usage: Usage) -> Summary:
        if inquiry.text:
            return Summary(inquiry.text, usage=usage)
        raise Unwritten(self._failed.setdefault(inquiry.first.key, inquiry).failure(), usage)


class LanguageModelWriter:
    """Writes summaries with a text generator and the templates of the verbs.

    Each distinct prompt is looked up in the store and sent only when it isn't there and no other process is
    at it; each answer is stored as soon as it comes, so that a failure or a kill loses none. A useless answer
    is asked for once more in other words (`Inquiry`); when that doesn't help, its summary is `Unwritten`.

    `tokens` counts for the cap of an item's line (`item_tokens`), and estimates the prompts' tokens. `ahead`
    prompts are handed to the generator at once: what it can work on side by side, and some more. `checks` is
    what makes an answer useless, and `words` makes the wording. The store is closed with the writer.
    """

    def __init__(
        self,
        generator: TextGenerator,
        templates: Templates,
        sampling: Sampling,
        store: Store,
        tokens: Tokens,
        item_tokens: int,
        *,
        checks: Collection[Check],
        ahead: int = _ALL_AT_ONCE,
        budget: Budget | None = None,
        words: Callable[..., Wording] = Wording,
    ) -> None:
        self.name = generator.identity
        self.wording = words(generator.identity, templates, sampling, tokens, item_tokens, generator.style)
        self.generator = generator
        self.store = store
        self.tokens = tokens
        self.checks = checks
        self.ahead = ahead
        self.budget = budget if budget is not None else Budget()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[PromptWriter]:
        """Open what writes for the length of a run.

        Its verbs raise WriterError when the generator gives up; BudgetError at the cap on calls or money,
        when all that was under way is stored; StoreError when the store can't be read or written: nothing
        more is paid for then.
        """
        sampling = self.wording.sampling
        async with self.generator.session(sampling) as answer:
            buying = purchases(self.store, self.budget, answer, self._most, self.ahead)
            async with buying as opened:
                yield _Session(self, opened)

    def _most(self, chat: Chat) -> Usage:
        """Estimate the most that a call can cost."""
        prompt = self.tokens.count(chat.system) + self.tokens.count(chat.user) + chat.image_tokens
        return Usage(1, 0, prompt, self.wording.sampling.max_new_tokens)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()


class _Session(PromptWriter):
    """One run's way from prompts to answers that are of use, and paid for once."""

    def __init__(self, writer: LanguageModelWriter, purchases: Purchases) -> None:
        super().__init__(writer.name, writer.wording, writer.checks)
        self._purchases = purchases
        self._first = FirstAnswers()
        self._first_under_way = 0
        self._judged = asyncio.Event()

    async def _advance(self, inquiry: Inquiry) -> None:
        is_first = inquiry.attempt == 0
        self._first_under_way += is_first
        try:
            await self._answer_next(inquiry)
        finally:
            self._first_under_way -= is_first
            self._judged.set()
        if is_first and inquiry.attempt + bool(inquiry.text):
            self._first.note(inquiry.verdict, inquiry.said)

    async def _answer_next(self, inquiry: Inquiry) -> None:
        question, users = inquiry.question, inquiry.users
        found = await self._purchases.find(question, users, waits=inquiry.is_elsewhere)
        if found is not None:
            inquiry.take(found, self._wording, self._checks, paid_now=False)
            return
        while inquiry.attempt and self._first.is_awaited and self._first_under_way:
            self._judged.clear()  # nothing is asked again before it is known whether that can help
            await self._judged.wait()
        try:
            bought = await self._purchases.buy(question, users)
        except Unanswered as failure:
            inquiry.unanswered = failure.reason
            return
        inquiry.is_elsewhere = bought is None
        if bought is not None:
            inquiry.take(bought, self._wording, self._checks, paid_now=True)

    async def _tie(self, keys: Sequence[str], users: Collection[str]) -> None:
        await self._purchases.tie(keys, users)


def open_local(config: Config, items: pl.DataFrame, budget: Budget) -> LanguageModelWriter:
    """Make the writer of a model in this process."""
    settings = config.summary.writer
    assert isinstance(settings, LocalWriter)
    return _open(config, budget, lambda: LocalGenerator(settings), _ALL_AT_ONCE)


def open_endpoint(config: Config, items: pl.DataFrame, budget: Budget) -> LanguageModelWriter:
    """Make the writer of a model behind a server."""
    settings = config.summary.writer
    assert isinstance(settings, EndpointWriter)
    # Some calls wait for their next try; the server's places must not stay empty meanwhile.
    return _open(config, budget, lambda: EndpointGenerator(settings, budget), 2 * settings.concurrency)


def _open(
    config: Config, budget: Budget, generator: Callable[[], TextGenerator], ahead: int
) -> LanguageModelWriter:
    store = Store(config.store_url)
    try:
        return LanguageModelWriter(
            generator=generator(),
            templates=Templates(config.prompt.domain, config.prompt.templates),
            sampling=config.summary.sampling,
            store=store,
            tokens=ApproximateTokens(),
            item_tokens=config.items.max_tokens,
            checks=config.summary.checks,
            ahead=ahead,
            budget=budget,
        )
    except BaseException:
        store.close()
        raise
