"""Summaries by a language model: prompts out, answers in, every answer stored before it counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trsr.config.summary import Sampling
from trsr.errors import WriterError
from trsr.models.generation import Chat, Completion, TextGenerator
from trsr.prompts.item_text import item_line
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import Tokens
from trsr.prompts.untrusted import neutralise
from trsr.records import Block, Summary, Usage
from trsr.summarize.store import Question, Store
from trsr.summarize.writer import Combine, Describe, Update

# What models that think aloud write before the answer.
_THOUGHTS: Final = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
# Marks of headings, lists, quotes and bold type at the answer's lines.
_MARKDOWN: Final = re.compile(r"^\s*(?:#{1,6}\s+|[-*•>]\s+)+|\*\*", re.MULTILINE)
_LABEL: Final = re.compile(r"\A\s*(?:\w+ ){0,2}summary:\s*", re.IGNORECASE)


class LanguageModelWriter:
    """Writes summaries with a text generator and the templates ``describe``, ``update`` and ``combine``.

    Each distinct prompt of a batch is looked up in the store and sent only when it
    isn't there; each answer is stored as soon as it comes, so that a failure or a
    kill loses none.

    Parameters
    ----------
    generator
        Who answers.
    templates
        The words.
    sampling
        How answers are drawn.
    store
        Where answers are kept.
    tokens
        Counts for the items' cap.
    item_tokens
        Cap of an item's line in the prompt.
    """

    def __init__(
        self,
        generator: TextGenerator,
        templates: Templates,
        sampling: Sampling,
        store: Store,
        tokens: Tokens,
        item_tokens: int,
    ) -> None:
        self.name = generator.identity
        self._generator = generator
        self._templates = templates
        self._sampling = sampling
        self._store = store
        self._tokens = tokens
        self._item_tokens = item_tokens

    def describe(self, requests: Sequence[Describe]) -> list[Summary]:
        """Summarise each block alone."""
        return self._write("describe", [{"items": self._lines(request.block)} for request in requests])

    def update(self, requests: Sequence[Update]) -> list[Summary]:
        """Bring each summary up to date with its next block."""
        variables = [
            {"summary": neutralise(request.summary.text), "items": self._lines(request.block)}
            for request in requests
        ]
        return self._write("update", variables)

    def combine(self, requests: Sequence[Combine]) -> list[Summary]:
        """Join each ordered group of summaries into one."""
        variables = [
            {"summaries": [neutralise(summary.text) for summary in request.summaries]} for request in requests
        ]
        return self._write("combine", variables)

    def _lines(self, block: Block) -> list[str]:
        return [item_line(item, self._tokens, self._item_tokens) for item in block.items]

    def _write(self, verb: str, prompts: Sequence[Mapping[str, Any]]) -> list[Summary]:
        system = self._templates.render("system").strip()
        versions = " ".join(f"{name} {self._templates.version(name)}" for name in ("system", verb))
        questions = [
            Question(
                model=self._generator.identity,
                sampling=self._sampling,
                chat=Chat(user=self._templates.render(verb, **variables).strip(), system=system),
                template=versions,
            )
            for variables in prompts
        ]
        keys = [question.key for question in questions]
        stored = self._store.get_many(keys)
        answers = stored | self._ask(dict(zip(keys, questions, strict=True)), stored)
        paid: set[str] = set(stored)
        summaries = []
        for key in keys:
            summaries.append(self._summary(answers[key], reused=key in paid))
            paid.add(key)
        return summaries

    def _ask(
        self, questions: Mapping[str, Question], stored: Mapping[str, Completion]
    ) -> dict[str, Completion]:
        """Send what isn't stored, and store each answer before the next one is waited for."""
        missing = [key for key in questions if key not in stored]
        answers: dict[str, Completion] = {}
        if not missing:
            return answers
        chats = [questions[key].chat for key in missing]
        for place, completion in self._generator.generate(chats, self._sampling):
            self._store.put(questions[missing[place]], completion)
            answers[missing[place]] = completion
        if unanswered := len(missing) - len(answers):
            message = f"{self.name}: {unanswered} of {len(missing)} prompts were not answered; run again"
            raise WriterError(message, retryable=True)
        return answers

    def _summary(self, completion: Completion, *, reused: bool) -> Summary:
        text = to_paragraph(completion.text)
        if not text:
            limit = self._sampling.max_new_tokens
            message = (
                f"{self.name}: answered a prompt of {completion.prompt_tokens} tokens with no text "
                f"({completion.completion_tokens} tokens, finish reason {completion.finish_reason!r}, "
                f"limit {limit}); take an instruction-tuned model, raise summary.sampling.max_new_tokens, or "
                "change summary.sampling.seed with a temperature above 0 to draw another answer"
            )
            raise WriterError(message)
        usage = Usage(
            calls=0 if reused else 1,
            calls_reused=1 if reused else 0,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
        )
        return Summary(text, usage=usage)


def to_paragraph(answer: str) -> str:
    r"""Reduce a model's answer to one neutral paragraph: no thoughts, label, list marks or line breaks.

    Examples
    --------
    >>> to_paragraph("<think>Hm.</think>\n**Updated summary:**\n- Likes **tea**.\n- Buys often.")
    'Likes tea. Buys often.'
    """
    return neutralise(_LABEL.sub("", _MARKDOWN.sub("", _THOUGHTS.sub("", answer))))
