"""Models out of wheels that the test makes; pip finds them in a folder, as in an index."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ConfigError, ModelError
from trsr.hf import known_models
from trsr.hf.gguf_files import locate
from trsr.hf.known_models import KNOWN_MODELS, KnownModel, Wheel, fetch, filling, get_model, read_card, seal
from trsr.hf.loading import load_language_model

WEIGHTS = b"first half, second half"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where pip looks for wheels, and nowhere else; models are kept below `tmp_path`."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def make_wheel(index: Path, package: str, files: dict[str, bytes]) -> Wheel:
    module = package.replace("-", "_")
    about = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode()
    tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    meta = {
        f"{module}-1.0.dist-info/{name}": text for name, text in {"METADATA": about, "WHEEL": tags}.items()
    }
    path = index / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, **meta, f"{module}-1.0.dist-info/RECORD": b""}.items():
            archive.writestr(name, content)
    content = path.read_bytes()
    return Wheel(package, "1.0", hashlib.sha256(content).hexdigest(), len(content), f"{module}/data/")


def make_model(index: Path, *, terms: str = "") -> KnownModel:
    """A model in two parts, with code beside it that nobody wants."""
    files = {"tiny_a/__init__.py": b"raise SystemExit", "tiny_a/data/more/config.json": b"{}"}
    if terms:
        files[f"tiny_a/data/{terms}"] = b"Be kind."
    first, second = WEIGHTS[:10], WEIGHTS[10:]
    wheels = (
        make_wheel(index, "tiny-a", files | {"tiny_a/data/tiny.bin.part0": first}),
        make_wheel(index, "tiny-b", {"tiny_b/data/tiny.bin.part1": second, "tiny_b/data/run.py": b"1"}),
    )
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    return KnownModel("tiny", "tests", "MIT", "tiny.bin", digest, wheels, terms)


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if not path.name.endswith(".lock") and path.is_file()]


def test_a_model_is_fetched_joined_and_without_code(index: Path, tmp_path: Path) -> None:
    model = make_model(index)
    assert not model.is_here
    folder = fetch(model)
    assert folder == tmp_path / "cache" / "models" / "tiny" == model.require()
    assert content(folder) == ["more/config.json", "source.json", "tiny.bin"]
    assert (folder / "tiny.bin").read_bytes() == WEIGHTS
    card = read_card(folder)
    assert card is not None
    assert card["releases"] == ["tiny-a==1.0", "tiny-b==1.0"]
    for wheel in index.iterdir():
        wheel.unlink()
    assert fetch(model) == folder  # nothing is fetched twice


def test_another_file_under_the_same_version_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    model = make_model(index)
    make_wheel(index, "tiny-b", {"tiny_b/data/tiny.bin.part1": b"something else"})
    with pytest.raises(
        ModelError, match=r"tiny-b==1\.0 is not the one that was checked: its SHA-256 is \w{64}, must be"
    ):
        fetch(model)
    assert leftovers(tmp_path / "cache") == []


def test_weights_that_are_not_the_known_ones_are_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.bin of tiny is not the one that was checked"):
        fetch(replace(make_model(index), sha256="0" * 64))
    assert leftovers(tmp_path / "cache") == []


def test_an_index_that_cannot_be_reached_is_told_apart_from_one_without_the_file(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(index)
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(ModelError, match=r"answers, but has no tiny-a==1\.0 .*PIP_INDEX_URL"):
        fetch(model)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        ModelError, match=r"can't be reached, so tiny-a==1\.0 was not fetched .*PIP_FIND_LINKS"
    ):
        fetch(model)
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'",
            "can't be reached",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "is not the one that"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space left",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x (from versions: 0.1)",
            "but has no x==1",
        ),
        ("", "pip said nothing"),
    ],
)
def test_what_pip_says_is_told_in_words_of_its_own(log: str, told: str) -> None:
    assert told in known_models._why_not("x==1", log)


def test_terms_are_shown_before_anything_else_is_fetched(index: Path, tmp_path: Path) -> None:
    model = make_model(index, terms="TERMS.txt")
    with pytest.raises(ConfigError, match=r"trsr models get tiny --accept-licence") as refused:
        fetch(model)
    found = re.search(r"read them in (\S+),", str(refused.value))
    assert found is not None
    assert Path(found[1]).read_text() == "Be kind."
    assert not model.is_here
    assert (fetch(model, accept_licence=True) / "TERMS.txt").exists()


def test_a_model_that_changed_on_disk_is_not_used_and_fetched_anew(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(index)
    (fetch(model) / "tiny.bin").write_bytes(WEIGHTS.replace(b"first", b"worst"))
    with pytest.raises(
        ModelError, match=r"tiny\.bin has changed since it was fetched.*`trsr models get tiny`"
    ):
        model.require()
    fetch(model)
    assert "changed since it was fetched; fetched anew" in capsys.readouterr().err
    assert (model.require() / "tiny.bin").read_bytes() == WEIGHTS


def test_a_killed_fetch_begins_anew_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    half = tmp_path / "cache" / "models" / ".tiny.abc.partial"
    half.mkdir(parents=True)
    (half / "tiny.bin").write_bytes(b"fir")
    fetch(make_model(index))
    assert not half.exists()


def test_one_process_fills_and_the_others_find_it_whole(tmp_path: Path) -> None:
    filled = []

    def fill() -> None:
        with filling(tmp_path / "models" / "one") as folder:
            if folder is not None:
                filled.append(folder)
                (folder / "file").write_text("content")
                seal(folder)

    workers = [threading.Thread(target=fill) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(filled) == 1
    assert content(tmp_path / "models" / "one") == ["file", "source.json"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'smollm' is no known model; known are: smollm2-135m, minilm"):
        get_model("smollm")


def test_a_known_model_that_is_not_here_is_no_hub_id() -> None:
    with pytest.raises(
        ModelError, match=r"`trsr models get minilm` fetches it \(84 MB, licence Apache-2\.0\)"
    ):
        locate("minilm")


def test_a_folder_goes_before_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("minilm").mkdir()
    assert locate("minilm").path == "minilm"


def test_the_list_is_whole() -> None:
    for name, model in KNOWN_MODELS.items():
        assert name == model.name
        assert all(re.fullmatch(r"[0-9a-f]{64}", part.sha256) for part in (model, *model.wheels))
        assert all(wheel.inside.endswith("/") and wheel.size > 0 for wheel in model.wheels)


def byte_pairs(tokens: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """The tokenizer that a file's own lists make, split as SmolLM2's: digits alone, then as GPT-2."""
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, [*map(_pair, merges)]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


@pytest.mark.slow
def test_smollm2_out_of_the_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the machine's own pip and cache
    try:
        folder = get_model("smollm2-135m")
    except ModelError as error:
        pytest.skip(f"needs the package index for SmolLM2-135M-Instruct: {error}")
    loaded = load_language_model(HuggingFaceModel(kind="huggingface", path="smollm2-135m"), "cpu")
    assert loaded.identity == "Smollm2 135M 8k Lc100K Mix1 Ep2@gguf-b179c9523d0e6a0f"
    assert loaded.licence == "apache-2.0"
    gguf = pytest.importorskip("gguf")
    fields = gguf.GGUFReader(folder / "SmolLM2-135M-Instruct.Q4_1.gguf").fields
    own = byte_pairs(fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.merges"].contents())
    for text in (
        "A drill,  18 V",
        "\n\n2024",
        "Привет, мир  7",
        "你好世界",
        "नमस्ते १२",
        "مرحبا ٣",
        "무선 드릴",
        "½ x²",
    ):
        assert loaded.tokenizer(text).input_ids == own.encode(text).ids, text
    assert loaded.tokenizer.chat_template == fields["tokenizer.chat_template"].contents()
    chat = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = loaded.model.generate(**chat, max_new_tokens=8, do_sample=False)[0, chat["input_ids"].shape[1] :]
    assert "Paris" in loaded.tokenizer.decode(answer)
