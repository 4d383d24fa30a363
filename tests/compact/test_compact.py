from __future__ import annotations

import pytest
import torch

from trsr.compact.model import END, PAD, build_model, train_tokenizer
from trsr.config.ranking import CompactModel
from trsr.errors import ModelError
from trsr.prompts.words import segments

LINES = ["Lighting; Oskelby Teak Wall Sconce", "Drinkware; Dailor Mug, 500 ml", "日本の茶碗 ☕"]
SMALL = CompactModel(vocabulary=400, hidden=32, layers=2, heads=4)


@pytest.mark.parametrize("answers", [("yes", "no"), ("relevant", "irrelevant"), ("ja", "nein")])
@pytest.mark.parametrize("lines", [LINES, [], ["yesyes nono eyes know"] * 50])
def test_the_answers_are_single_tokens_whatever_the_catalogue(
    lines: list[str], answers: tuple[str, str]
) -> None:
    tokenizer = train_tokenizer(lines, ["Answer:"], answers, 340)
    assert len(tokenizer) <= 340
    for answer in answers:
        assert len(tokenizer(f" {answer}").input_ids) == 1
        assert len(tokenizer(f"Answer: {answer}").input_ids) == len(tokenizer("Answer:").input_ids) + 1


def test_letters_of_any_script_come_back_and_signs_become_spaces() -> None:
    tokenizer = train_tokenizer(LINES, ["Answer:"], ("yes", "no"), 400)
    for text, read in {
        LINES[0]: "lighting oskelby teak wall sconce",
        "日本の茶碗 ☕ Ünseen Wörds": "日本の茶碗 ünseen wörds",
        "mug\nline? lamp: x-y 9": "mug\nline? lamp: x-y 9",
    }.items():
        assert tokenizer.decode(tokenizer(text).input_ids) == read


def test_stop_words_are_passed_over_but_those_of_the_prompt_and_the_answers() -> None:
    tokenizer = train_tokenizer(LINES, ["Is the next:"], ("yes", "no"), 400)
    read = tokenizer.decode(tokenizer("The mug of a lifetime is here: no whereof, theatre").input_ids)
    assert read == "the mug lifetime is : no whereof theatre"


def test_the_same_catalogue_gives_the_same_vocabulary() -> None:
    one, other = (train_tokenizer(LINES * 20, ["Answer:"], ("yes", "no"), 420) for _ in range(2))
    assert one.get_vocab() == other.get_vocab()


def test_the_prompts_words_become_single_tokens() -> None:
    tokenizer = train_tokenizer(LINES, ["\nAnswer:"], ("yes", "no"), 400)
    assert len(tokenizer("Answer").input_ids) == 1


def test_a_vocabulary_without_room_for_the_answers_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"model\.vocabulary=260 is too small.*'extraordinarily'.*take at least \d+"
    ):
        train_tokenizer(LINES, [], ("extraordinarily", "no"), 260)


def test_the_model_has_the_settings_shape_and_the_seeds_weights() -> None:
    tokenizer = train_tokenizer(LINES, ["Answer:"], ("yes", "no"), 400)
    state = torch.get_rng_state()
    one, same, other = (build_model(SMALL, tokenizer, seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state()), "the caller's randomness is left alone"
    assert (one.config.hidden_size, one.config.num_hidden_layers, one.config.vocab_size) == (
        32,
        2,
        len(tokenizer),
    )
    assert one.config.num_key_value_heads == 2
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(one.state_dict()[weight], same.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])
    assert tokenizer.convert_tokens_to_ids([END, PAD]) == [one.config.eos_token_id, one.config.pad_token_id]


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    tokenizer = train_tokenizer(LINES, ["Answer:"], ("yes", "no"), 400)
    with pytest.raises(ModelError, match=r"model\.hidden: must be a multiple of .* \(8\), got 36"):
        build_model(CompactModel(hidden=36, heads=4), tokenizer, 0)


SENTENCE = "軽量スピーカー音響用品静かに動作し省スペースに収納できます"


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        (SENTENCE, ["軽量", "スピーカー", "音響", "用品", "静か", "スペース", "収納"]),
        ("เครื่องชงกาแฟสำหรับบ้าน", ["เครื่อง", "กาแฟ", "สำหรับ", "บ้าน"]),
        ("无线蓝牙耳机玻璃茶壶", ["无线", "蓝牙", "耳机", "玻璃", "茶壶"]),
    ],
)
def test_tokens_are_words_where_no_spaces_stand(sentence: str, pieces: list[str]) -> None:
    tokenizer = train_tokenizer([f"title: {sentence}"] * 50, ["Answer:"], ("yes", "no"), 600)
    ids = tokenizer(sentence).input_ids
    read = [tokenizer.decode([token]) for token in ids]
    assert set(pieces) <= set(read)
    assert max(map(len, read)) == max(map(len, pieces)), "no token goes beyond a word"
    assert tokenizer(f"title: {sentence}").input_ids[-len(ids) :] == ids, (
        "spaces before words count for nothing"
    )
    assert tokenizer(" ".join(segments(sentence))).input_ids == ids


def test_wide_letters_are_the_usual_ones() -> None:
    tokenizer = train_tokenizer(["ＵＳＢﾊﾞｯｸﾞ"] * 9, ["Answer:"], ("yes", "no"), 400)
    assert tokenizer("ＵＳＢﾊﾞｯｸﾞ").input_ids == tokenizer("USBバッグ").input_ids


def test_answers_without_spaces_are_single_tokens() -> None:
    tokenizer = train_tokenizer([SENTENCE] * 5, ["答え:"], ("はい", "いいえ"), 400)
    for answer in ("はい", "いいえ"):
        assert len(tokenizer(f"答え: {answer}").input_ids) == len(tokenizer("答え:").input_ids) + 1
