import json
import re
import shutil
from pathlib import Path

import pytest
from small_comparison import Finished

from trsr.config import Config
from trsr.errors import ConfigError
from trsr.experiments.ablate import ablate


@pytest.mark.usefixtures("unwritten")
def test_an_ablation_counts_its_variants_and_skips_what_is_complete(
    finished: Finished, tmp_path: Path
) -> None:
    shutil.copytree(finished.config.folder, tmp_path / "run")
    seeds = finished.config.ablation.model_copy(update={"seeds": (0,)})
    config = finished.config.model_copy(update={"out": tmp_path / "run", "ablation": seeds})
    said: list[str] = []
    written = ablate(config, only=["summary"], say=said.append)
    [panel] = json.loads(written.figures.read_text(encoding="utf-8"))["panels"]
    variants = len(panel["variants"])
    assert variants == 3
    jobs = [line for line in said if line.startswith("[")]
    assert [line[:5] for line in jobs if line.endswith("...")] == ["[1/3]", "[2/3]", "[3/3]"]
    ended = [line for line in jobs if not line.endswith("...")]
    assert all(re.search(r": .+; about .+ left$", line) for line in ended[:-1])
    assert ended[-1].endswith("; nothing left")
    figures = written.figures.read_bytes()
    said.clear()
    ablate(config, only=["summary"], say=said.append)
    assert [line.endswith("complete, skipped") for line in said if line.startswith("[")] == [True] * 3
    assert written.figures.read_bytes() == figures


@pytest.mark.parametrize(("only", "told"), [(["summary", "sumary"], "'sumary'"), ([], "nothing")])
def test_unknown_dimensions_are_refused_with_the_known_ones(
    only: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"among summary, recent_items, .*, method, grid, got {told}"):
        ablate(Config(out=tmp_path / "run"), only=only)
    assert list(tmp_path.iterdir()) == []
