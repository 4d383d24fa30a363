from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from trsr.config.summary import Domain
from trsr.errors import TemplateError
from trsr.prompts.templates import BUILT_IN, Templates
from trsr.summarize.sections import read_profile

GOLDEN = Path(__file__).with_name("golden")
DOMAINS: tuple[Domain, ...] = get_args(Domain)
ITEMS = ["title: Cordless drill; brand: Bolt", "(no text)"]
VERBS: dict[str, dict[str, Any]] = {
    "system": {},
    "describe": {"items": ITEMS},
    "update": {"summary": "Likes sturdy tools.", "items": ITEMS},
    "combine": {"summaries": ["Likes sturdy tools.", "Turns to tea."]},
    "edit": {
        "sections": [
            {
                "key": "lasting",
                "meaning": "what comes back",
                "notes": [{"number": 1, "text": "sturdy tools"}],
            },
            {"key": "lately", "meaning": "what is new", "notes": []},
        ],
        "items": ITEMS,
    },
}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("verb", VERBS)
def test_the_rendered_prompt_is_the_golden_one(domain: Domain, verb: str) -> None:
    """A change here is a change of every prompt: raise the template's version and read the new text."""
    golden = (GOLDEN / f"{verb}_{domain}.txt").read_text(encoding="utf-8")
    assert Templates(domain).render(verb, **VERBS[verb]) == golden


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("verb", ["describe", "update", "combine"])
def test_worked_examples_end_where_a_note_begins_and_show_the_new_case_last_alone(
    domain: Domain, verb: str
) -> None:
    given = {"describe": {}, "update": {}, "combine": {}} | VERBS
    filled = {"summary": "", "summaries": [], "items": []} | given[verb]
    text = Templates(domain).render("examples", verb=verb, **filled).strip()
    head, *examples, case = text.split("\n\n")
    assert head.endswith(".")
    assert len(examples) == (3 if verb == "describe" else 2)
    for example in examples:
        assert re.search(r"\n- .+\n(- .+\n)+Note: [A-Z].+\.\Z", example)
        assert example.startswith("Known: ") == (verb == "update")
    shown = ITEMS if verb != "combine" else VERBS[verb]["summaries"]
    assert case.endswith("".join(f"\n- {line}" for line in shown) + "\nNote:")
    assert ("\nKnown: Likes sturdy tools.\n" in f"\n{case}") == (verb == "update")


def test_worked_edits_end_where_edits_begin_and_show_the_new_case_last_alone() -> None:
    text = Templates("generic").render("edit_examples", **VERBS["edit"]).strip()
    head, *examples, case = text.split("\n\n")
    assert head.endswith(".")
    assert len(examples) == 4
    profile = read_profile(["ADD lasting: a\nADD lately: b\nADD brands: c"])
    for example in examples:
        assert re.fullmatch(r"(\w+: .+\n){4}Chosen:\n(- .+\n)+Edits: .+", example)
        assert profile.fault(example.rpartition("Edits: ")[2]) == ""
    assert case.startswith("lasting: 1. sturdy tools\nlately: none\nChosen:\n- title: Cordless drill")
    assert case.endswith("\n- (no text)\nEdits:")


def test_an_own_template_of_one_domain_goes_before_that_of_all(folder: Path) -> None:
    write(folder, "{# version: 1 #}all")
    write(folder, "{# version: 2 #}news alone", "describe_news.jinja")
    assert Templates("news", folder).render("describe") == "news alone"
    assert Templates("video", folder).render("describe") == "all"


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.jinja")), ids=lambda path: path.stem)
def test_every_built_in_template_declares_a_version(path: Path) -> None:
    declared, _, digest = Templates("generic").version(path.stem).rpartition("-")
    assert declared.isdigit()
    assert len(digest) == 12


def test_data_is_never_read_as_a_template() -> None:
    rendered = Templates("generic").render("describe", items=["{{ 7 * 7 }} {% raw %} & <b>"])
    assert "1. {{ 7 * 7 }} {% raw %} & <b>\n" in rendered


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "own"
    own.mkdir()
    return own


def write(folder: Path, text: str, name: str = "describe.jinja") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_own_templates_go_over_the_built_in_ones_file_by_file(folder: Path) -> None:
    write(folder, "{# version: 7b #}\nSum up: {{ items | join(', ') }} of a {{ domain.user }}.\n")
    own, built_in = Templates("news", folder), Templates("news")
    assert own.render("describe", items=["a", "b"]) == "Sum up: a, b of a reader.\n"
    assert own.version("describe").startswith("7b-")
    assert own.version("update") == built_in.version("update")


def test_own_words_go_over_the_built_in_ones(folder: Path) -> None:
    write(folder, "generic: {user: diner}\n", "domains.yaml")
    write(folder, "{# version: 1 #}A {{ domain.user }}")
    assert Templates("generic", folder).render("describe") == "A diner"
    with pytest.raises(TemplateError, match=r"domains\.yaml: has no words for the domain 'news'"):
        Templates("news", folder)


def test_the_version_changes_with_the_text_and_the_words(folder: Path) -> None:
    write(folder, "{# version: 1 #}\nA")
    before = Templates("news", folder).version("describe")
    write(folder, "{# version: 1 #}\nB")
    after = Templates("news", folder).version("describe")
    assert before != after
    assert after != Templates("video", folder).version("describe")


def test_white_space_is_the_templates_own(folder: Path) -> None:
    write(folder, "{# version: 1 #}\n\n  A \n\n")
    assert Templates("news", folder).render("describe") == "\n  A \n\n"


def test_an_unknown_variable_names_file_line_and_what_is_given(folder: Path) -> None:
    path = write(folder, "{# version: 1 #}\nA\n{{ itmes }}\n")
    with pytest.raises(TemplateError) as caught:
        Templates("news", folder).render("describe", items=[])
    assert str(caught.value) == f"{path}:3: 'itmes' is undefined; the template is given: domain, items"


def test_a_missing_word_is_an_unknown_variable(folder: Path) -> None:
    path = write(folder, "{# version: 1 #}\n{{ domain.itme }}\n")
    with pytest.raises(TemplateError, match="itme") as caught:
        Templates("news", folder).render("describe")
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_syntax_error_names_file_and_line(folder: Path) -> None:
    path = write(folder, "{# version: 1 #}\n\n{% for x in items %}\n")
    with pytest.raises(TemplateError) as caught:
        Templates("news", folder).render("describe", items=[])
    assert str(caught.value).startswith(f"{path}:3: not a valid template: ")


@pytest.mark.parametrize(
    "expression", ["1 / 0", "''.__class__.__mro__", "items.append('x')", "open('/etc/passwd')"]
)
def test_a_template_that_fails_or_reaches_out_is_refused(folder: Path, expression: str) -> None:
    path = write(folder, "{# version: 1 #}\n{{ " + expression + " }}\n")
    with pytest.raises(TemplateError) as caught:
        Templates("news", folder).render("describe", items=[])
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize("text", ["A", "\n{# version: 1 #}", "{# version #}A", ""])
def test_a_template_without_a_version_is_refused(folder: Path, text: str) -> None:
    path = write(folder, text)
    with pytest.raises(TemplateError) as caught:
        Templates("news", folder).render("describe")
    assert str(caught.value).startswith(f"{path}:1: must begin with its version")


def test_a_template_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "describe.jinja").write_bytes(b"{# version: 1 #}\ncaf\xe9")
    with pytest.raises(TemplateError, match=r"describe\.jinja: not a readable UTF-8 text file"):
        Templates("news", folder).render("describe")


def test_a_missing_template_names_the_built_in_ones() -> None:
    with pytest.raises(TemplateError, match=r"no template 'descrbe' in .*combine, describe"):
        Templates("news").render("descrbe")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="is no folder"):
        Templates("news", tmp_path / "absent")


@pytest.mark.parametrize("words", ["news: [a]", "news: {item: 3}", "- news", "news: {"])
def test_malformed_words_are_refused(folder: Path, words: str) -> None:
    path = write(folder, words, "domains.yaml")
    with pytest.raises(TemplateError) as caught:
        Templates("news", folder)
    assert str(caught.value).startswith(str(path))
