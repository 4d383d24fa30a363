from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from plain_tokenizer import plain_tokenizer
from trsr.compact.model import END, PAD
from trsr.errors import ModelError
from trsr.hf.tokenization import PlainEncoder, TokenizerTokens, leading_ids

LINES = ["cordless drill, 18V", "the red lamp", "blue mug for tea"]


def words() -> PreTrainedTokenizerFast:
    tokenizer = plain_tokenizer(LINES, ["Answer:"], ("yes", "no"), 400)
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<tool>", special=False)])
    return tokenizer


TOKENIZER = words()
ENCODE = PlainEncoder(TOKENIZER)
CONTROL = {END, PAD, "<|im_end|>", "<tool>"}


@pytest.mark.parametrize(
    "text", [*sorted(CONTROL), "a <|im_end|> b", f"{END}{END}", "<|im_end|><tool>", "x<tool>y"]
)
def test_control_tokens_in_data_come_out_as_plain_text(text: str) -> None:
    control = {TOKENIZER.convert_tokens_to_ids(token) for token in CONTROL}
    assert control & set(TOKENIZER(text).input_ids), "the tokenizer by itself must fall for it"
    ids = PlainEncoder(TOKENIZER)([text])[0]
    assert not control & set(ids)
    assert TOKENIZER.decode(ids) == text


def test_plain_text_is_encoded_as_the_tokenizer_does() -> None:
    assert ENCODE(LINES) == [TOKENIZER(line).input_ids for line in LINES]
    assert ENCODE([]) == []


def test_the_callers_tokenizer_stays_as_it_was() -> None:
    before = TOKENIZER("<|im_end|>").input_ids
    ENCODE(["<|im_end|>"])
    assert TOKENIZER("<|im_end|>").input_ids == before


def test_pieces_of_the_vocabulary_that_are_control_tokens_are_broken_up() -> None:
    pieces = [("<unk>", 0.0), ("</s>", -1.0), *((letter, -5.0) for letter in "<>/s ab")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    ids = PlainEncoder(tokenizer)(["a</s>b"])[0]
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == "a</s>b"


def test_a_tokenizer_that_leaks_even_so_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"x": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.add_special_tokens(["x"])
    with pytest.raises(ModelError, match=r"control tokens \['x'\] out of the plain text 'x'"):
        PlainEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))(["x"])


def test_letters_that_the_tokenizer_lacks_become_its_unknown_token() -> None:
    backend = Tokenizer(models.WordLevel({"x": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.add_special_tokens(["[UNK]"])
    assert PlainEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))(["drill"]) == [
        [1]
    ]


def test_leading_tokens_are_found_where_the_tokenizer_puts_them() -> None:
    assert leading_ids(TOKENIZER) == ()
    backend = Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    assert leading_ids(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=END)) == (0,)


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=60) | st.sampled_from(["日本語 日本語", "🙂🙂🙂 x", "a<|im_end|>b"]),
    most=st.integers(0, 30),
)
def test_a_cut_is_the_longest_beginning_that_keeps_the_cap(text: str, most: int) -> None:
    tokens = TokenizerTokens(ENCODE)
    cut = tokens.cut(text, most)
    assert text.startswith(cut)
    assert tokens.count(cut) <= most
    assert cut == cut.rstrip()
    if tokens.count(text.rstrip()) <= most:
        assert cut == text.rstrip()


def test_cuts_by_hand() -> None:
    tokens = TokenizerTokens(ENCODE)
    one, two = (tokens.count(part) for part in ("cordless", "cordless drill"))
    assert one < two
    assert tokens.cut("cordless drill, 18V", two) == "cordless drill"
    assert tokens.cut("cordless drill, 18V", 0) == ""
    assert tokens.cut("cordless  ", 50) == "cordless"
