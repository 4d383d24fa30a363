"""With a tiny model of random weights that is made here; without the library, the refusal alone."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from baselines_shop import DRILL, SAW, learnt_from, row

from trsr.baselines.embeddings import Embeddings
from trsr.errors import ConfigError, ModelError

installed = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="the extra `embeddings` is not installed",
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


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
    system = Embeddings(model)
    system.fit(learnt_from(fields=("title",)))
    whole = system.score(["u", "v"], [row(DRILL), row()])
    assert whole[0, DRILL] == pytest.approx(1, abs=1e-5)
    assert whole[0, SAW] < 1
    assert whole[1].tolist() == [0] * 4
    assert np.allclose(system.score(["u"], [row(DRILL)], row(SAW, DRILL)[None]), whole[:1, [SAW, DRILL]])
    longer = system.with_items(pl.DataFrame({"title": ["cordless saw"]}))
    assert longer.score(["u"], [row(DRILL)], row(4)[None])[0, 0] == pytest.approx(whole[0, SAW], abs=1e-5)


@installed
def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a sentence-transformers model"):
        Embeddings(str(tmp_path)).fit(learnt_from())


def test_a_missing_model_is_told() -> None:
    with pytest.raises(ConfigError, match=r"comparison\.embedding_model"):
        Embeddings(None)


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'trsr\[embeddings\]'"):
        Embeddings("anything").fit(learnt_from())
