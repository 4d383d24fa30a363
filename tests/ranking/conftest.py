from __future__ import annotations

import sys
from pathlib import Path

# The small shop that several test files here share stands in a plain module.
sys.path.insert(0, str(Path(__file__).parent))
