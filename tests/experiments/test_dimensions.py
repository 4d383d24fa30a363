from __future__ import annotations

import pytest

from trsr.config import Config, load
from trsr.config.evaluation import Ablation
from trsr.experiments.variants import Value, configure, dimension, is_own, variant

NAMES = Ablation().dimensions


@pytest.mark.parametrize("name", NAMES)
def test_every_dimension_holds_the_runs_own_setting_once_and_valid_others(name: str, tmp_path) -> None:
    config = load(overrides={"training.loss": "pointwise"})
    made = dimension(name, config)
    variants = [variant([value], config) for value in made.values]
    assert len({each.name for each in variants}) == len(variants) >= 2
    if name != "method":  # `auto` is neither adapters nor full by its words
        assert [each.name for each in variants].count("default") == 1
    for each in variants:
        configure(config, each, 0, tmp_path)  # raises for a setting that isn't there or breaks its rule


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_no_list_names_is_shown_too(name: str) -> None:
    odd = {
        "prompt.recent_items": 4,
        "summary.block_size": 4,
        "training.negatives": 3,
        "training.loss": "listwise",
        "training.method": "lora",
        "training.lora.rank": 5,
        "summary.writer": {"kind": "local", "model": "somewhere"},
    }
    config = load(overrides=odd)
    values = dimension(name, config).values
    assert sum(is_own(value, config) for value in values) == 1


def test_numbers_stand_in_order_with_the_runs_own_among_them() -> None:
    config = load(overrides={"prompt.recent_items": 4})
    assert [value.label for value in dimension("recent_items", config).values] == [
        "0", "1", "3", "4", "5", "7", "10",
    ]  # fmt: skip


def test_no_more_negatives_than_there_are() -> None:
    config = load(overrides={"candidates.negatives": 10})
    assert [value.label for value in dimension("negatives", config).values] == ["1", "4", "10"]


def test_equal_settings_are_one_variant_whatever_asked_for_them() -> None:
    config = Config()
    alone = variant([Value("0", {"prompt.recent_items": 0})], config)
    crossed = variant(
        [Value("recurrent", {"summary.paradigm": "recurrent"}), Value("0", {"prompt.recent_items": 0})],
        config,
    )
    assert alone == crossed
    long = {"summary.writer": {"kind": "local", "model": "m" * 200}}
    assert len(variant([Value("long", long)], config).name) <= 81
