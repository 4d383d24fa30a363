from pathlib import Path

import pytest
import yaml

from trsr.baselines.base import open_baseline
from trsr.baselines.item_encoder import open_encoder
from trsr.config import Config, dump, load, parse_overrides
from trsr.config.presets import PRESETS
from trsr.config.section import Section
from trsr.errors import ConfigError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_valid_and_survive_a_round_trip(tmp_path: Path) -> None:
    assert load(write(tmp_path, dump(load()))) == load()


def test_every_setting_has_a_meaning() -> None:
    # Own parts of other tests bring settings, too.
    sections = [each for each in Section.__subclasses__() if each.__module__.startswith("trsr.")]
    assert Config in sections
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert undocumented == []


def test_all_wrong_settings_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "trainning: {}\nhistory: {min: 20, max: 5}\nsummary: {block_size: 0}\n")
    with pytest.raises(ConfigError) as raised:
        load(path)
    text = str(raised.value)
    assert "3 settings to mend" in text
    assert "trainning: no such setting" in text
    assert "max must be at least min (20), got 5" in text
    assert "summary.block_size" in text
    assert str(path) in text


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("trainning: {epochs: 2}", "trainning: no such setting; did you mean training?"),
        ("model: {hiden: 32}", "no such setting; did you mean model.hidden?"),
        ("summary: {writer: {kind: keyphrase, phrase: 3}}", "did you mean summary.writer.phrases?"),
        (
            "data: {format: tables, items: i.csv, events: e.csv, user_colum: u}",
            "did you mean data.user_column?",
        ),
        ("block_size: 5", "block_size: no such setting; did you mean summary.block_size"),
        ("evaluation: {kind: null, foo: 1}", "evaluation.foo: no such setting"),
        ("evaluation: {kind: 'nowhere_at_all:Y', foo: 1}", "evaluation.foo: no such setting"),
        ("training: {nonsense: 1}", "training.nonsense: no such setting"),
    ],
)
def test_an_unknown_setting_is_told_with_the_one_that_was_meant(
    tmp_path: Path, written: str, told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, written))
    assert told in str(raised.value)
    assert str(raised.value).endswith("?") is ("did you" in told)


def test_precedence_is_override_then_file_then_preset_then_default(tmp_path: Path) -> None:
    path = write(tmp_path, "preset: paper\ntraining: {epochs: 2, batch_size: 3}\n")
    config = load(path, {"training.batch_size": 7})
    assert config.training.batch_size == 7
    assert config.training.epochs == 2
    assert config.training.accumulation == PRESETS["paper"]["training"]["accumulation"] == 8
    assert config.evaluation.ks == (3, 5, 10)


def test_the_demo_preset_is_the_demo_example() -> None:
    example = load(Path(__file__).parents[2] / "examples" / "demo.yaml")
    assert load(overrides={"preset": "demo"}).model_copy(update={"preset": None}) == example


def test_paper_preset_holds_the_papers_choices() -> None:
    config = load(overrides={"preset": "paper"})
    training = config.training
    assert (training.lora.rank, training.lora.alpha, training.lora.dropout) == (8, 16, 0.05)
    assert (training.learning_rate, training.betas, training.weight_decay) == (1e-4, (0.9, 0.95), 5e-4)
    assert (training.epochs, training.batch_size, training.accumulation, training.negatives) == (5, 8, 8, 1)
    assert (config.history.min, config.history.max, config.summary.block_size) == (11, 26, 5)
    assert (config.prompt.max_tokens, config.prompt.recent_items, config.candidates.negatives) == (
        2048,
        5,
        20,
    )


def test_the_preset_of_mllm_msr_holds_its_authors_choices() -> None:
    config = load(overrides={"preset": "mllm_msr", "images.folder": "pictures"})
    assert config.images is not None
    assert (config.images.folder, config.images.sampling.max_new_tokens) == (Path.cwd() / "pictures", 200)
    assert (config.summary.block_size, config.prompt.recent_items) == (3, 0)
    lora, training = config.training.lora, config.training
    assert (lora.rank, lora.alpha, lora.dropout) == (16, 32, 0.1)
    assert (training.learning_rate, training.epochs, training.accumulation, training.negatives) == (
        2e-5,
        4,
        24,
        1,
    )
    assert load(overrides=config.model_dump(mode="json")) == config


def test_the_preset_of_llm_sequential_names_systems_that_open() -> None:
    config = load(overrides={"preset": "llm_sequential"})
    opened = {name: open_baseline(name, seed=0).settings for name in config.comparison.baselines}
    [bert] = [own for name, own in opened.items() if name.startswith("bert4rec")]
    assert (bert.width, bert.heads, bert.mask_share, bert.negatives) == (448, 1, 0.65, 0)
    assert [own.permuted for name, own in opened.items() if "llm2bert4rec" in name] == [False, True]
    assert config.comparison.retriever == config.training.retriever in opened


def test_the_preset_of_llm2rec_holds_the_authors_choices() -> None:
    config = load(overrides={"preset": "llm2rec"})
    opened = [open_baseline(name, seed=0) for name in config.comparison.baselines]
    frozen = [system.settings for system in opened if "llm2rec" in str(system.settings)]
    assert [(own.adapter, own.offset_scale, own.permuted) for own in frozen] == [
        ("linear", 0, False),
        ("linear", 0, True),
        ("linear", 0, False),
    ]
    learns = open_encoder(frozen[0].encoder, seed=0).settings
    assert (learns.csft.steps, learns.csft.batch_size * learns.csft.accumulation) == (10_000, 128)
    assert (learns.mntp.steps, learns.mntp.masked, learns.simcse.batch_size) == (1000, 0.2, 256)
    assert load(overrides={"preset": "llm2rec", "comparison": {"seeds": [1]}}).comparison.seeds == (1,)


def test_another_kind_of_model_drops_the_presets_settings_of_the_first() -> None:
    config = load(overrides={"preset": "paper", "model": {"kind": "compact"}})
    assert config.model.kind == "compact"
    assert config.training.accumulation == 8


def test_the_default_kind_may_be_left_out(tmp_path: Path) -> None:
    config = load(write(tmp_path, "model: {layers: 2}\nsummary: {writer: {decay: 0.5}}\n"))
    assert (config.model.kind, config.model.layers) == ("compact", 2)
    assert (config.summary.writer.kind, config.summary.writer.decay) == ("keyphrase", 0.5)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="paper"):
        load(overrides={"preset": "papre"})


def test_relative_data_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "data: {format: microlens, path: ../raw}\n")
    monkeypatch.chdir(tmp_path)
    assert load(path).data.path == tmp_path / "raw"
    assert load(path, {"data.path": "mine"}).data.path == tmp_path / "mine"
    path = write(tmp_path / "sub", "data: {format: mind, path: ../raw, texts: [a.tsv, ../b.csv]}\n")
    assert load(path).data.texts == (tmp_path / "sub" / "a.tsv", tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("text", "told"),
    [("- a\n- b\n", "key: value"), ("a: [1\n", "not a readable YAML"), ("\x00", "not a readable YAML")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(write(tmp_path, text))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        load(tmp_path / "nothing.yaml")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")) == load()


@pytest.mark.parametrize("setting", ["epochs", "=3", "a=[1"])
def test_malformed_overrides_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_overrides([setting])


def test_overrides_stay_as_the_caller_made_them() -> None:
    training = {"epochs": 2}
    load(overrides={"training": training, "training.epochs": 3})
    assert training == {"epochs": 2}


def test_override_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed holds a value"):
        load(overrides={"seed": 3, "seed.sub": 1})


def test_tables_need_exactly_one_of_events_and_histories() -> None:
    with pytest.raises(ConfigError, match="exactly one of `events` and `histories`"):
        load(overrides={"data": {"format": "tables", "items": "items.csv"}})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    config = load(path)
    assert config.name == yaml.safe_load(path.read_text())["name"]
    assert config.folder == Path("runs") / config.name


def test_an_unknown_encoding_and_words_that_are_no_text_are_refused() -> None:
    data = {"data.format": "microlens", "data.path": "x"}
    with pytest.raises(ConfigError, match=r"data\.encoding: .*cp1252, cp1251.*got 'martian'"):
        load(None, data | {"data.encoding": "martian"})
    with pytest.raises(ConfigError, match=r"data\.null_words\.0"):
        load(None, data | {"data.null_words": [None]})
    assert load(None, data | {"data.null_words": [], "data.encoding": "latin-1"}).data.null_words == ()


def test_a_model_behind_a_server_is_told_no_nearest_items() -> None:
    asked = {
        "kind": "endpoint",
        "protocol": "vllm",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "tokenizer": "t",
    }
    with pytest.raises(ConfigError, match=r"prompt\.nearest_items: a model behind a server"):
        load(overrides={"model": asked, "prompt.nearest_items": 1})
