import subprocess
import sys
import tomllib
from pathlib import Path

import trsr

ROOT = Path(__file__).parents[1]


def test_the_door_is_a_list_of_names_that_exist() -> None:
    assert all(getattr(trsr, name) is not None for name in trsr.__all__)
    assert set(trsr._HOMES) == set(trsr.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(trsr, "recomender")


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert trsr.__version__ == project["version"]


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_and_help_load_no_heavy_library() -> None:
    heavy = {"torch", "transformers", "peft", "polars", "sklearn", "matplotlib", "httpx2", "sqlalchemy"}
    assert not heavy & loaded_by("import trsr")
    show_help = "import trsr.cli\ntry:\n    trsr.cli.app(['--help'])\nexcept SystemExit:\n    pass"
    assert not heavy & loaded_by(show_help)
