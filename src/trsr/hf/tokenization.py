"""Text to token ids: text that others wrote never becomes a control token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trsr.errors import ModelError


class PlainEncoder:
    """Encodes text as text, whatever it spells: no special and no added token comes out, but the unknown one.

    The tokenizer is left as it is. Raises ModelError when it is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            message = (
                f"{type(tokenizer).__name__} of {tokenizer.name_or_path!r} is not a fast tokenizer; "
                "save one beside the model (tokenizer.json) or take another model"
            )
            raise ModelError(message)
        # A copy: the switch below would change how the caller's own tokenizer reads its chat template.
        self._backend = Tokenizer.from_str(backend.to_str())
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        # The unknown token is what a tokenizer makes of letters that it lacks; it controls nothing.
        self._control = {
            number: str(token.content)
            for number, token in backend.get_added_tokens_decoder().items()
            if number != tokenizer.unk_token_id
        }

    @property
    def text_ids(self) -> set[int]:
        """Ids that text can become."""
        return set(self._backend.get_vocab(with_added_tokens=False).values()) - self._control.keys()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of every text, without any special token.

        Raises ModelError when the tokenizer turns a text into a control token even so.
        """
        # Without the places of tokens in the text, which takes half the time.
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._checked(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def spans(self, text: str) -> tuple[list[tuple[int, int]], int]:
        """Return the characters, from and to, that each token stands for; and how many ids a call gives."""
        encoding: Encoding = self._backend.encode(text, add_special_tokens=False)
        spans = [(int(start), int(end)) for start, end in encoding.offsets]
        return spans, len(self._checked(text, encoding.ids))

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        if self._control.keys().isdisjoint(ids):
            return ids
        ids = self._without_added_tokens(text)
        if self._control.keys().isdisjoint(ids):
            return ids
        # A vocabulary that holds its control tokens as ordinary pieces: a space inside breaks them.
        for content in self._control.values():
            if len(content) > 1:
                text = text.replace(content, f"{content[0]} {content[1:]}")
        ids = self._without_added_tokens(text)
        leaked = sorted({self._control[key] for key in self._control.keys() & set(ids)})
        if leaked:
            message = f"this tokenizer reads the control tokens {leaked} out of the plain text {text[:80]!r}"
            raise ModelError(message)
        return ids

    def _without_added_tokens(self, text: str) -> list[int]:
        """Run the tokenizer's own steps one by one, which leaves out its list of added tokens."""
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        pieces = [text]
        if self._backend.pre_tokenizer is not None:
            pieces = [piece for piece, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for piece in pieces for token in self._backend.model.tokenize(piece)]


class TokenizerTokens:
    """Counts and cuts text by a model's own tokens."""

    def __init__(self, encoder: PlainEncoder) -> None:
        self._encoder = encoder

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        return len(self._encoder([text])[0])

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of `text` of at most `max_tokens` tokens, without trailing space."""
        text = text.rstrip()
        if max_tokens <= 0:
            return ""
        spans, count = self._encoder.spans(text)
        if count <= max_tokens:
            return text
        ends = [end for _, end in spans]
        # A shorter text can cost more tokens at its new end (a word or a sign cut in two), so look again.
        for keep in range(min(max_tokens, len(ends)), 0, -1):
            beginning = text[: ends[keep - 1]].rstrip()
            if self.count(beginning) <= max_tokens:
                return beginning
        return ""


def reachable_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids that a prompt can hold: those of text, of what goes before it, and of the chat template.

    Added tokens that nothing writes are not among them: many tokenizers have a padding token that their model
    has no row for. Raises ModelError when the tokenizer is not a fast one.
    """
    encoder = PlainEncoder(tokenizer)
    template = str(tokenizer.chat_template or "")
    written = {number for number, content in encoder._control.items() if content in template}
    begins = {tokenizer.bos_token_id} if "bos_token" in template else set()
    return (encoder.text_ids | {*leading_ids(tokenizer)} | written | begins) - {None}


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the special tokens that the tokenizer puts before a text, such as one that begins it."""
    special = set(tokenizer.all_special_ids)
    leading: list[int] = []
    for token_id in tokenizer("a").input_ids:
        if token_id not in special:
            break
        leading.append(int(token_id))
    return tuple(leading)


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Divide rows into batches of at most `budget` tokens, padding included, longest rows first.

    A row that is longer than the budget is a batch by itself.

    Examples
    --------
    >>> token_batches([3, 9, 4, 2], budget=10)
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
            longest = lengths[row]
        batches[-1].append(row)
    return batches


def pad_right(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Stack rows into a tensor of shape ``(n_rows, longest)``, filled with `padding` on the right."""
    stacked = torch.full((len(rows), max(len(row) for row in rows)), padding, dtype=torch.long)
    for place, row in enumerate(rows):
        stacked[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    return stacked
