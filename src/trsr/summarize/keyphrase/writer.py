"""The built-in writer: key phrases and attributes of the catalogue in plain sentences, with no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import polars as pl

from trsr.config.summary import Domain
from trsr.errors import ConfigError, WriterError
from trsr.records import ITEM, Block, Item, Summary, Usage
from trsr.summarize.keyphrase.interests import Interests, dump, join, load, observe, trim
from trsr.summarize.keyphrase.phrasebook import Phrasebook
from trsr.summarize.keyphrase.taste import Chooser
from trsr.summarize.keyphrase.wording import write
from trsr.summarize.writer import Combine, Describe, Request, Update, write_in_batches


class KeyphraseWriter:
    """Writes summaries from what a user's items have more of than the catalogue.

    A summary's state holds decayed weights of phrases and attribute values. `update`
    and `combine` join states: they never see the items of older blocks again. Reading
    block by block and combining block summaries weigh interests alike, so both
    paradigms agree but for features that were dropped to keep the state small.

    Parameters
    ----------
    items
        The catalogue: ``item_id`` and one column per text field. Items that are not
        in it can be summarised too, by the phrases they share with it.
    domain
        Chooses the words of the sentences.
    decay
        Weight that an interest keeps when one more block has passed, in (0, 1].
    phrases
        Lasting interests that a summary names at most; up to three changes of taste come on top.

    Raises
    ------
    ConfigError
        When `decay` or `phrases` is out of its rule.

    Examples
    --------
    >>> titles = ["Desk lamp, walnut", "Floor lamp, walnut", "Steel shelf", "Steel bolt", "Oak table"]
    >>> categories = ["lighting", "lighting", "storage", "tools", "tables"]
    >>> ids = ["1", "2", "3", "4", "5"]
    >>> catalogue = pl.DataFrame({"item_id": ids, "title": titles, "category": categories})
    >>> writer = KeyphraseWriter(catalogue, domain="shopping")
    >>> history = [Item("", {"title": title, "category": "lighting"}) for title in titles[:2]]
    >>> [summary] = writer.describe([Describe(Block(tuple(history), 0))])
    >>> summary.text
    'Mostly buys lighting; looks for lamp and walnut.'
    """

    name = "keyphrase"

    def __init__(
        self, items: pl.DataFrame, domain: Domain = "generic", decay: float = 0.6, phrases: int = 6
    ) -> None:
        if not 0 < decay <= 1:
            message = f"decay must be above 0 and at most 1, got {decay}; 1 forgets nothing"
            raise ConfigError(message)
        if phrases < 1:
            message = f"phrases must be at least 1, got {phrases}; it is how many interests a summary names"
            raise ConfigError(message)
        self._phrasebook = Phrasebook(_items(items))
        self._chooser = Chooser(self._phrasebook, phrases, decay)
        self._domain: Domain = domain
        self._decay = decay

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Answer the requests, and those appended in the meantime, one batch a verb."""
        return write_in_batches(self, requests)

    def describe(self, requests: Sequence[Describe]) -> list[Summary]:
        """Summarise each block alone."""
        return [self._summary(self._observe(request.block)) for request in requests]

    def update(self, requests: Sequence[Update]) -> list[Summary]:
        """Join each summary's state with what the next block shows.

        Raises
        ------
        WriterError
            When a summary has no state, because another writer wrote it: its text
            does not say how strong an interest is.
        """
        return [self._joined([_state(request.summary), self._observe(request.block)]) for request in requests]

    def combine(self, requests: Sequence[Combine]) -> list[Summary]:
        """Join the states of each group of summaries, oldest first.

        Raises
        ------
        WriterError
            When a group is empty, or one of its summaries has no state, because
            another writer wrote it.
        """
        return [self._joined([_state(summary) for summary in request.summaries]) for request in requests]

    def _observe(self, block: Block) -> Interests:
        return observe(self._phrasebook.features(item) for item in block.items)

    def _joined(self, parts: Sequence[Interests]) -> Summary:
        if not parts:
            message = "combine got no summaries; give at least one"
            raise WriterError(message)
        return self._summary(reduce(lambda older, newer: join(older, newer, self._decay), parts))

    def _summary(self, interests: Interests) -> Summary:
        kept = trim(interests, self._phrasebook.standing)
        text = write(self._chooser.choose(kept), self._domain)
        return Summary(text, dump(kept), Usage(calls=1))


def _items(frame: pl.DataFrame) -> Iterator[Item]:
    for row in frame.iter_rows(named=True):
        yield Item(row[ITEM], {name: text for name, text in row.items() if name != ITEM and text})


def _state(summary: Summary) -> Interests:
    if not summary.state:
        message = (
            "the keyphrase writer can't go on from a summary that another writer wrote, "
            f"got {summary.text[:60]!r}; write this user's summary anew"
        )
        raise WriterError(message)
    return load(summary.state)
