from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from trsr.baselines.item_encoder import Vectors
from trsr.baselines.pretrained_encoder import LanguageModelStates, PretrainedEncoder, PretrainedSettings
from trsr.errors import ArtifactError
from trsr.registry import ENCODERS, identity


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors.db"


class Counting(PretrainedEncoder):
    """Writes down what it reads; a text is its length."""

    Settings = PretrainedSettings
    texts_a_step = 2

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.heard: list[str] = []
        self.breaks = False

    def _reader(self) -> Callable[[Sequence[str]], Vectors]:
        def read(texts: Sequence[str]) -> Vectors:
            if self.breaks and self.heard:
                raise KeyboardInterrupt
            self.heard += texts
            return np.array([[len(text), 1.0] for text in texts], np.float32)

        return read


def test_a_text_is_read_once_by_a_model(tmp_path: Path) -> None:
    first, again, other = Counting(model="one"), Counting(model="one"), Counting(model="two")
    assert first.encode(["ab", "abc", "ab", " "]).tolist() == [[2, 1], [3, 1], [2, 1], [0, 0]]
    assert first.heard == ["ab", "abc", " "]
    assert again.encode(["abc", "abcd"]).tolist() == [[3, 1], [4, 1]]
    assert again.heard == ["abcd"]
    other.encode(["abc"])
    assert other.heard == ["abc"]


def test_what_was_read_before_an_interruption_is_kept() -> None:
    broken, again = Counting(model="one"), Counting(model="one")
    broken.breaks = True
    with pytest.raises(KeyboardInterrupt):
        broken.encode(["a", "bb", "ccc"])
    again.encode(["a", "bb", "ccc"])
    assert again.heard == ["ccc"]


def test_a_damaged_cache_is_told(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("no database " * 50)
    with pytest.raises(ArtifactError, match=r"vectors.db: can't be used .*delete it"):
        Counting(model="one").encode(["a"])


def test_vectors_kept_belong_to_the_weights_and_not_to_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    name = f"sentence(model={str(folder)!r})"
    before = identity("encoder", name, ENCODERS)
    Counting(model=str(folder)).encode(["a"])
    (folder / "config.json").write_text('{"other": 1}')
    assert identity("encoder", name, ENCODERS) != before
    changed = Counting(model=str(folder))
    changed.encode(["a"])
    assert changed.heard == ["a"]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_states_of_a_causal_model_by_hand(tiny_model_dir: Path, pooling: str) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    texts = ["cordless drill", "tea", "price 89 tools and quiet news"]
    encoder = LanguageModelStates(model=str(tiny_model_dir), pooling=pooling, max_tokens=5)
    vectors = encoder.encode(texts)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModel.from_pretrained(tiny_model_dir).eval()
    for text, vector in zip(texts, vectors, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids[:5]]
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        expected = states[-1] if pooling == "last" else states[1:].mean(dim=0)
        assert np.allclose(vector, (expected / expected.norm()).numpy(), atol=1e-4)
    [note] = encoder.notes
    cut = sum(len(tokenizer(text, add_special_tokens=False).input_ids) > 5 for text in texts)
    assert note == f"of {cut} texts only the first 5 tokens are read (max_tokens)"
