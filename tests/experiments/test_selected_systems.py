import pytest

from trsr.config import Config, load
from trsr.errors import ConfigError
from trsr.experiments.tables import SelectedSystems, select_systems


def test_all_of_the_settings_take_part() -> None:
    config = Config()
    selected = select_systems(config)
    assert selected.baselines == config.comparison.baselines
    assert selected.language_models == ("tallrec", "hierarchical", "recurrent")
    assert selected.fused
    assert selected.imported is None


def test_companions_take_part_with_the_fused_ranker() -> None:
    selected = select_systems(Config(), ["recurrent", "fused", "random"])
    assert selected.baselines == ("random", *Config().fusion.companions)
    assert selected.language_models == ("recurrent",)


@pytest.mark.parametrize("settings", [{"fusion.companions": []}, {"comparison.language_models": []}])
def test_settings_without_companions_or_forms_have_no_fused_ranker(settings: dict[str, list[str]]) -> None:
    assert not select_systems(load(overrides=settings)).fused


def test_the_fused_ranker_needs_a_form_when_it_is_named() -> None:
    with pytest.raises(ConfigError, match=r"name one of tallrec, .*llmseqprompt, mllm_msr beside"):
        select_systems(Config(), ["fused", "tfidf"])


def test_imported_systems_are_named_like_others() -> None:
    selected = select_systems(Config(), ["lightgcn", "tfidf"], imported=["lightgcn", "s3rec"])
    assert selected == SelectedSystems(("tfidf",), (), False, ("lightgcn",))
    with pytest.raises(ConfigError, match="lightgcn, s3rec, got 'lightgnc'"):
        select_systems(Config(), ["lightgnc"], imported=["lightgcn", "s3rec"])


def test_seeds_and_systems_are_named_once() -> None:
    with pytest.raises(ConfigError, match="seeds must name each once, got 0, 0"):
        load(overrides={"comparison.seeds": [0, 0]})


def test_who_retrieves_takes_part_with_a_language_model() -> None:
    config = load(overrides={"comparison.retriever": "llmseqsim(decay='last')"})
    assert select_systems(config, ["llmseqprompt"]).baselines == ("llmseqsim(decay='last')",)
    assert select_systems(config, ["tfidf"]).baselines == ("tfidf",)
