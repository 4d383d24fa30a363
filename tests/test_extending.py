"""One own part of each kind, from a module outside the package, from the configuration to the page."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from small_comparison import comparison_config

import own_parts
from trsr import run
from trsr.config import Config, dump, load
from trsr.config.evaluation import Comparison
from trsr.errors import ConfigError
from trsr.experiments.compare import compare
from trsr.experiments.report import Published
from trsr.experiments.tables import select_systems
from trsr.experiments.variants import dimension
from trsr.registry import BASELINES, identity
from trsr.summarize.cost import table
from trsr.summarize.forecast import forecast

GUIDE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


def visits(path: Path, visitors: int = 80, shelves: int = 4, products: int = 30) -> Path:
    """Write a log in which every visitor looks at products of one shelf alone."""
    draw = np.random.default_rng(0)
    lines = []
    for visitor in range(visitors):
        taken = visitor % shelves * products + draw.permutation(products)[: draw.integers(12, 20)]
        for step, product in enumerate(taken.tolist()):
            row = {"visitor": f"v{visitor}", "product": f"p{product}", "minute": 60 * visitor + step}
            lines.append(json.dumps(row | {"title": f"lamp number {product}"}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def settings_of_the_guide(folder: Path) -> dict[str, Any]:
    """Read the configuration that the guide shows, over which a small run's sizes are laid."""
    [shown] = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    settings: dict[str, Any] = yaml.safe_load(shown)
    visits(folder / settings["data"]["log"])
    return settings


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Published]:
    folder = tmp_path_factory.mktemp("own")
    shown = settings_of_the_guide(folder)
    small = yaml.safe_load(dump(comparison_config(folder / "run")))
    for section, values in shown.items():
        small[section] = {**small[section], **values} if section != "data" else values
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(small), encoding="utf-8")
    config = load(path)
    return config, compare(config, say=lambda line: None)


def test_the_guide_shows_what_runs_here() -> None:
    source = Path(own_parts.__file__).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        made: dict[str, Any] = {"__name__": "guide"}
        exec(compile(block, "docs/extending.md", "exec"), made)
        imports, *parts = block.strip().split("\n\n\n")
        assert all(part in source for part in parts)
        assert "import" in imports
    config = made["config"]
    assert config.comparison.baselines == ("bm25", "own_parts:Ease(l2=50.0)")
    assert config.evaluation.metrics == ("Recall(k=20)", "own_parts:BiasedPrecision(patience=0.5)")


def test_an_own_baseline_is_trained_measured_fused_and_shown(compared: tuple[Config, Published]) -> None:
    config, written = compared
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    name = "own_parts:Ease(l2=50.0)"
    assert name in {system["name"] for system in told["systems"]}
    assert config.fusion.companions == (name, "tfidf")
    page = written.page.read_text(encoding="utf-8")
    assert "EASE (l2=50.0)" in page
    assert "A linear model of items by items, in closed form." in page
    assert "EASE" in page.split("<table")[1]
    # Who counts pairs must see the shelves.
    [table, *_] = told["tables"]
    ndcg = {each["system"]: each["metrics"]["NDCG@10"]["mean"] for each in table["rows"]}
    assert ndcg[name] > ndcg["popularity"] + 0.2


def test_an_own_metric_stands_in_the_tables(compared: tuple[Config, Published]) -> None:
    told = json.loads(compared[1].figures.read_text(encoding="utf-8"))
    values = told["tables"][0]["rows"][0]["metrics"]
    assert 0 < values["RBP 0.5"]["low"] <= values["RBP 0.5"]["mean"] <= values["RBP 0.5"]["high"] <= 0.5
    assert {"Recall@3", "AUC", "Recall@20"} < set(values)
    assert "RBP 0.5" in compared[1].csv.read_text(encoding="utf-8")
    assert "RBP 0.5" in compared[1].page.read_text(encoding="utf-8")


def test_an_own_reader_read_the_file_beside_the_configuration(compared: tuple[Config, Published]) -> None:
    config, _ = compared
    assert config.data.log.is_absolute()
    assert load(overrides=yaml.safe_load(dump(config))).data == config.data


def test_an_own_writer_and_paradigm_write_the_summaries(compared: tuple[Config, Published]) -> None:
    config, _ = compared
    [table] = sorted(config.folder.rglob("summaries.parquet"))
    texts = pl.read_parquet(table)["summary"]
    # The newest block alone, and 2 titles of it at most.
    assert texts.str.contains(r"^lamp number \d+(; lamp number \d+)?$").all()


def test_a_run_shows_own_parts_on_its_page(compared: tuple[Config, Published], tmp_path: Path) -> None:
    folder = run(compared[0].model_copy(update={"out": tmp_path / "run"}), say=lambda line: None)
    systems = json.loads(folder.metrics.read_text(encoding="utf-8"))["systems"]
    assert "RBP 0.5" in systems["own_parts:Ease"]["test"]["metrics"]
    page = folder.report.read_text(encoding="utf-8")
    assert "EASE" in page
    assert "own_parts:Titles" in page
    assert json.loads((folder.path / "bill.json").read_text(encoding="utf-8"))["actual"] is None


def test_names_of_the_command_line_take_the_settings_of_the_configuration() -> None:
    config = Config(comparison=Comparison(baselines=("tfidf", own_parts.Ease(l2=50))))
    assert select_systems(config, ["own_parts:Ease"]).baselines == ("own_parts:Ease(l2=50.0)",)
    assert select_systems(config, ["own_parts:Ease(l2=7)"]).baselines == ("own_parts:Ease(l2=7.0)",)
    assert select_systems(config, ["bm25(k1=2)"]).baselines == ("bm25(k1=2.0)",)


def test_a_changed_setting_or_file_is_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "changing_parts.py"
    module.write_text(Path(own_parts.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    first = identity("baseline", "changing_parts:Ease", BASELINES)
    assert identity("baseline", "changing_parts:Ease(l2=100)", BASELINES) == first
    assert identity("baseline", "changing_parts:Ease(l2=7)", BASELINES) != first
    module.write_text(module.read_text(encoding="utf-8") + "\n# another state", encoding="utf-8")
    assert identity("baseline", "changing_parts:Ease", BASELINES) != first


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"comparison.baselines": ["nowhere:Ease"]},
            r"comparison\.baselines\.0: .*No module named 'nowhere'",
        ),
        (
            {"comparison.baselines": ["own_parts:Easy"]},
            r"'own_parts:Easy' can't be imported .*has no attribute",
        ),
        (
            {"comparison.baselines": ["esae"]},
            r"no baseline 'esae'; take one of random, .*package\.module:Class",
        ),
        (
            {"fusion.companions": [{"kind": "own_parts:Ease", "l3": 1}]},
            r"l3: no such setting .its settings: l2",
        ),
        ({"evaluation.baselines": ["own_parts:Ease(l2=-1)"]}, r"l2: Input should be greater than 0"),
        ({"evaluation.baselines": ["own_parts:Ease(l2=open('x'))"]}, r"not a name with settings"),
        (
            {"comparison.baselines": ["bm25", "bm25(k1=1.2)"]},
            r"baselines must name each once, got bm25, bm25",
        ),
        ({"evaluation.metrics": ["own_parts:Broken"]}, r"'own_parts:Broken' can't be imported"),
        ({"evaluation.metrics": ["own_parts:Titles"]}, r"derived from trsr\.evaluation\.metrics\.Metric"),
        ({"comparison.baselines": ["own_parts:newest"]}, r"derived from trsr\.baselines\.base\.Baseline"),
        ({"evaluation.metrics": ["Recall(k=3)"]}, r"names of their own, but two are Recall@3"),
        ({"data": {"format": "own_parts:Visits"}}, r"data\.log: is required"),
        (
            {"data": {"format": "own_parts:Visits", "log": "x", "logs": 1}},
            r"data\.logs: no such setting; did you mean data\.log\?",
        ),
        (
            {"summary.writer": {"kind": "own_parts:Titles", "mots": 2}},
            r"mots: no such setting; did you mean summary\.writer\.most\?",
        ),
        (
            {"comparison.baselines": [{"kind": "sasrec", "max_epoch": 3}]},
            r"max_epoch: no such setting; did you mean max_epochs\? \(its settings: ",
        ),
        ({"fusion.companions": ["tfidf(decays=0.5)"]}, r"decays: no such setting; did you mean decay\?"),
        (
            {"data": {"format": "own_parts:Ease"}},
            r"must be a class derived from trsr\.data\.dataset\.Reader",
        ),
        ({"data": {"format": "ods"}}, r"no data format 'ods'; take one of demo, mind"),
        ({"summary.writer": {"kind": "own_parts:Titles", "most": 0}}, r"most: .*greater than or equal to 1"),
        ({"summary.writer": {"kind": "own_parts:Titels"}}, r"'own_parts:Titels' can't be imported"),
        ({"summary.writer": {"kind": "gpt"}}, r"kind must be keyphrase, local, endpoint, table, or your own"),
        (
            {"summary.paradigm": "zigzag"},
            r"no paradigm 'zigzag'; take one of recurrent, hierarchical, sections, none, or your own",
        ),
        ({"summary.paradigm": "own_parts:oldest"}, r"'own_parts:oldest' can't be imported"),
    ],
)
def test_what_is_wrong_is_told_with_the_configuration(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(overrides=settings)


def test_a_module_that_fails_when_it_is_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_parts.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero"):
        load(overrides={"fusion.companions": ["failing_parts:Ease"]})


def test_the_model_of_embeddings_may_stand_where_version_0_1_had_it() -> None:
    config = load(
        overrides={"comparison": {"baselines": ["tfidf", "embeddings"], "embedding_model": "some/encoder"}}
    )
    assert config.comparison.baselines == ("tfidf", "embeddings(model='some/encoder')")
    assert load(overrides={"comparison.embedding_model": None}) == load()


def test_what_an_own_writer_costs_is_unknown_beforehand_and_never_0() -> None:
    config = load(overrides={"summary.writer": {"kind": "own_parts:Titles"}})
    told = forecast(config, [])
    assert (told.bill.calls, told.bill.money) == (None, None)
    assert "unknown" in table([told.bill])
    assert "own_parts:Titles" in told.basis


def test_an_ablation_names_own_writers_and_paradigms() -> None:
    config = load(
        overrides={
            "summary": {"paradigm": "own_parts:newest", "writer": {"kind": "own_parts:Titles", "most": 1}}
        }
    )
    assert [value.label for value in dimension("summary", config).values][-1] == "own_parts:newest"
    assert [value.label for value in dimension("writer", config).values][-1] == "own_parts:Titles, most 1"
