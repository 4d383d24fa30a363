from __future__ import annotations

import sys
from pathlib import Path

# The small models and prompts that several test files here share stand in a plain module.
sys.path.insert(0, str(Path(__file__).parent))
