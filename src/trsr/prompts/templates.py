"""Prompts as data: one template file each, with a version, strict variables and the words of a domain.

The built-in templates lie beside this module in ``templates/``. A folder of own
templates goes over them file by file, ``domains.yaml`` (the words) included. A file
``NAME_DOMAIN.jinja`` is the template NAME of that domain alone.
Every template begins with its version, ``{# version: 1 #}``, which is no part of
the prompt; every variable that it uses must be given.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import jinja2
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trsr.artifacts import hash_value
from trsr.config.summary import Domain
from trsr.errors import TemplateError

BUILT_IN: Final = Path(__file__).with_name("templates")
_WORDS_FILE: Final = "domains.yaml"
_VERSION: Final = re.compile(r"\A\ufeff?\{#-?\s*version:\s*(?P<version>[\w.-]+?)\s*-?#\}")
_HASH_DIGITS: Final = 12


SUMMARY_TEMPLATES: Final = (
    "system", "describe", "update", "combine", "repair", "examples",
    "edit", "edit_repair", "edit_examples",
)  # fmt: skip
"""What writers with a language model read."""
RANKING_TEMPLATES: Final = ("rank_prefix", "rank_suffix", "rank_compact_prefix", "rank_compact_suffix")
"""What every ranking model reads, those of the compact model last."""
RANK_ORDER: Final = "rank_order"
"""What a chat model reads that writes the order of all candidates."""
_NEAREST_TEMPLATES: Final = ("rank_nearest", "rank_compact_nearest")


def ranking_templates(nearest_items: int) -> tuple[str, ...]:
    """Name what ranking models read where so many of the nearest items are told."""
    return RANKING_TEMPLATES + (_NEAREST_TEMPLATES if nearest_items else ())


def template_files(folder: Path) -> list[Path]:
    """Return the files of a folder of own templates that can be read as such, the words among them."""
    return sorted(path for path in (*folder.glob("*.jinja"), folder / _WORDS_FILE) if path.is_file())


class Templates:
    """The templates of one domain, whose words stand in every template as ``domain.<word>``.

    What is not in the folder of own templates is taken from the built-in ones. Raises TemplateError
    when the folder doesn't exist, or the words of the domain can't be read.

    Examples
    --------
    >>> templates = Templates("news")
    >>> templates.render("describe", items=["title: Rain ahead"]).splitlines()[0]
    'Here are news articles that one reader read, oldest first:'
    >>> templates.version("describe")
    '1-...'
    """

    def __init__(self, domain: Domain, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            message = (
                f"prompt.templates: {folder} is no folder; make it and put copies of the templates to change "
                "into it, or leave the setting out"
            )
            raise TemplateError(message)
        self.domain = domain
        self.folder = folder
        self._words = _read_words(self._path(_WORDS_FILE), domain)
        self._environment = ImmutableSandboxedEnvironment(
            loader=jinja2.FunctionLoader(self._load),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )

    def render(self, name: str, **variables: Any) -> str:
        """Render a template, named without folder and ``.jinja``; the words of the domain are ``domain``.

        Untrusted text among the variables must have been neutralised. Raises TemplateError, naming file
        and line, when the template is missing, has no version, is malformed, or uses a variable that is
        not given.
        """
        try:
            template = self._environment.get_template(name)
            return template.render(domain=SimpleNamespace(**self._words), **variables)
        except TemplateError:
            raise
        except jinja2.TemplateSyntaxError as error:
            message = f"{error.filename}:{error.lineno}: not a valid template: {error.message}"
            raise TemplateError(message) from error
        except Exception as error:  # an own template may do anything that Jinja allows, such as 1 / 0
            place = self._failing_line(error)
            given = ", ".join(sorted({*variables, "domain"}))
            message = f"{place}: {error}; the template is given: {given}"
            raise TemplateError(message) from error

    def version(self, name: str) -> str:
        """Return the version that the template declares, and a hash of its text and its domain's words.

        Raises TemplateError when the template is missing or declares no version.
        """
        _, source, declared = self._read(name)
        digest = hash_value([source, self._words])
        return f"{declared}-{digest[:_HASH_DIGITS]}"

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """Return the version of each named template."""
        return {name: self.version(name) for name in names}

    def _path(self, file: str) -> Path:
        own = None if self.folder is None else self.folder / file
        return own if own is not None and own.is_file() else BUILT_IN / file

    def _load(self, name: str) -> tuple[str, str, None]:
        path, source, _ = self._read(name)
        return source, str(path), None

    def _read(self, name: str) -> tuple[Path, str, str]:
        path = self._path(f"{name}_{self.domain}.jinja")
        if not path.is_file():
            path = self._path(f"{name}.jinja")
        try:
            source = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            known = ", ".join(sorted(file.stem for file in BUILT_IN.glob("*.jinja")))
            message = f"no template {name!r} in {self.folder or BUILT_IN}; the built-in ones are: {known}"
            raise TemplateError(message) from error
        except (OSError, UnicodeDecodeError) as error:
            message = f"{path}: not a readable UTF-8 text file: {error}"
            raise TemplateError(message) from error
        declared = _VERSION.match(source)
        if declared is None:
            message = (
                f"{path}:1: must begin with its version, such as {{# version: 1 #}}, got {source[:40]!r}; "
                "raise it whenever the meaning of the prompt changes"
            )
            raise TemplateError(message)
        return path, source.removeprefix("\ufeff"), declared["version"]

    def _failing_line(self, error: Exception) -> str:
        """Find the deepest line of a template in the traceback; Jinja puts templates' own lines there."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(".jinja")]
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "template"


def _read_words(path: Path, domain: str) -> Mapping[str, str]:
    try:
        words = yaml.safe_load(path.read_text(encoding="utf-8"))[domain]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = f"{path}: not a readable YAML file: {error}"
        raise TemplateError(message) from error
    except (KeyError, TypeError) as error:
        message = f"{path}: has no words for the domain {domain!r}; copy the section of the built-in file"
        raise TemplateError(message) from error
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        message = f"{path}: {domain} must hold `name: text` lines, got {words!r}"
        raise TemplateError(message)
    return {str(name): word for name, word in words.items()}
