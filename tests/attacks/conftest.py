from __future__ import annotations

import sys
from pathlib import Path

# The hostile texts and the tokenizers stand in a plain module, which other tests may read.
sys.path.insert(0, str(Path(__file__).parent))
