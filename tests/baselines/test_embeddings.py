"""With a tiny model of random weights that is made here; without the library, the refusal alone."""

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from baselines_shop import DRILL, SAW, learnt_from, row

from trsr.baselines.pretrained_encoder import Sentence
from trsr.baselines.text import Embeddings
from trsr.errors import ConfigError, ModelError
from trsr.hf import text_encoders

installed = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="the extra `embeddings` is not installed",
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from sentence_transformers import SentenceTransformer, models  # noqa: PLC0415
    from transformers import BertConfig, BertModel, BertTokenizer  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("embedding")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cordless", "drill", "saw", "green", "tea"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "bert")
    reads = models.Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[reads, models.Pooling(16)]).save(str(folder / "model"))
    return str(folder / "model")


@installed
def test_likeness_is_the_cosine_with_the_sum_of_the_history(model: str) -> None:
    system = Embeddings(model=model)
    system.fit(learnt_from(fields=("title",)))
    whole = system.score(["u", "v"], [row(DRILL), row()])
    assert whole[0, DRILL] == pytest.approx(1, abs=1e-5)
    assert whole[0, SAW] < 1
    assert whole[1].tolist() == [0] * 4
    assert np.allclose(system.score(["u"], [row(DRILL)], row(SAW, DRILL)[None]), whole[:1, [SAW, DRILL]])
    longer = system.with_items(pl.DataFrame({"title": ["cordless saw"]}), row(*range(4)))
    assert longer.score(["u"], [row(DRILL)], row(4)[None])[0, 0] == pytest.approx(whole[0, SAW], abs=1e-5)


@installed
def test_the_model_is_loaded_once_however_many_texts_it_reads(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = text_encoders.load_sentence_encoder

    def counted(library: Any, path: str) -> Any:
        loaded.append(path)
        return load(library, path)

    monkeypatch.setattr(text_encoders, "load_sentence_encoder", counted)
    monkeypatch.setattr(Sentence, "texts_a_step", 1)
    assert Sentence(model=model).encode(["drill", "saw", "green tea"]).shape == (3, 16)
    assert loaded == [model]


@installed
def test_equal_texts_tie_to_the_last_bit(model: str) -> None:
    words = ["drill", "saw", "tea", "green tea", "cordless drill saw", "green saw"]
    texts = [*words, *[" ".join(words[n % 6 : n % 6 + 2]) for n in range(60)], "saw"]
    system = Embeddings(model=model)
    system.fit(learnt_from(items=pl.DataFrame({"item_id": [str(n) for n in range(67)], "title": texts})))
    longer = system.with_items(pl.DataFrame({"title": ["saw"]}), row(*range(67)))
    users = [f"u{number}" for number in range(20)]
    histories = [row(number, number + 7) for number in range(20)]
    everything = longer.score(users, histories)
    some = longer.score(users, histories, np.stack([row(1, *range(2, 13), 66, *range(20, 29), 67)] * 20))
    for scores, twins in ((everything, [1, 66, 67]), (some, [0, 12, 22])):
        assert np.ptp(scores[:, twins], axis=1).tolist() == [0.0] * 20


@installed
@pytest.mark.parametrize("lost", ["encoder.layer.0.attention.self.query.weight", "pooler.dense.weight"])
def test_a_model_that_lacks_weights_is_told_where_they_count(model: str, lost: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    folder = shutil.copytree(model, tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights[lost]
    save_file(weights, file, {"format": "pt"})
    system = Embeddings(model=str(folder))
    if lost.startswith("pooler"):
        system.fit(learnt_from())
    else:
        with pytest.raises(ModelError, match=rf"`sentence`: .*weights are missing or NaN: .*{lost}"):
            system.fit(learnt_from())


@installed
def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a sentence-transformers model"):
        Embeddings(model=str(tmp_path)).fit(learnt_from())


def test_a_missing_model_is_told() -> None:
    with pytest.raises(ConfigError, match=r"needs a model: name it as"):
        Embeddings()


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'trsr\[embeddings\]'"):
        Embeddings(model="anything").fit(learnt_from())
