from __future__ import annotations

import sys
from pathlib import Path

import torch

# The small shop that several test files here share stands in a plain module.
sys.path.insert(0, str(Path(__file__).parent))

# Tiny models gain nothing from a second thread, and lose much when the cores are busy.
torch.set_num_threads(1)
