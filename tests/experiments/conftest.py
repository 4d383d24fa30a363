"""One finished comparison for all tests that only look at it."""

import pytest
import torch
from small_comparison import Finished, comparison_config

from trsr.experiments.compare import compare

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    config = comparison_config(tmp_path_factory.mktemp("comparison") / "run")
    said: list[str] = []
    return Finished(config, compare(config, say=said.append), said)
