"""Every text of the pages stands in the catalogues, and what stands there can be shown in its place."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from babel.messages import Catalog
from babel.messages.catalog import Message
from django.apps import apps
from django.db.models import Field
from django.utils import translation
from django.utils.functional import Promise

from mcp_oauth.exceptions import DiscoveryFailed, McpOAuthError
from mcp_oauth.sentences import kept, marked, predicate, recalled, said, sentence
from tests import catalogues
from tests.catalogues import LANGUAGES, ROOT, Text

pytestmark = pytest.mark.once

PLACEHOLDER = re.compile(r"%\(\w+\)[-#0-9.]*[a-z]|%%|\{\w+\}")


@pytest.fixture(scope="module", params=sorted(LANGUAGES))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def catalog(language: str) -> Catalog:
    return catalogues.read_catalog(language)


def forms(of: Any) -> tuple[str, ...]:
    return (of,) if isinstance(of, str) else tuple(of or ("",))


def entries(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def same_words(language: str) -> set[str]:
    """Return the texts that are the same in a language on purpose, such as names."""
    path = ROOT / "tests" / "same" / f"{language}.txt"
    return {line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")}


def test_the_files_are_what_make_messages_writes() -> None:
    assert [path.relative_to(ROOT).as_posix() for path in catalogues.outdated()] == [], "Run “make messages”."


def test_nothing_is_marked_as_uncertain_or_left_over(catalog: Catalog) -> None:
    assert [message.id for message in entries(catalog) if message.fuzzy] == []
    assert list(catalog.obsolete) == []


def test_a_translation_has_the_placeholders_of_its_text(catalog: Catalog) -> None:
    wrong = []
    for message in entries(catalog):
        wanted = [set(PLACEHOLDER.findall(form)) for form in forms(message.id)]
        # "One server" need not say the number.
        counted = {"%(count)d", "%(counter)s"} if len(wanted) > 1 else set()
        for number, form in enumerate(forms(message.string)):
            found = set(PLACEHOLDER.findall(form))
            if form and found != wanted[-1] and not (number == 0 and found in (wanted[0], wanted[-1] - counted)):
                wrong.append((message.id, form))

    assert not wrong


def test_a_translation_begins_and_ends_like_its_text(catalog: Catalog) -> None:
    # What is glued to something else would lose its distance.
    def blanks(text: str) -> tuple[bool, bool]:
        return text[:1].isspace(), text[-1:].isspace()

    wrong = [
        message.id
        for message in entries(catalog)
        for form in filter(None, forms(message.string))
        if blanks(form) != blanks(forms(message.id)[0])
    ]

    assert not wrong


def test_no_translation_is_the_source_unless_it_is_listed(catalog: Catalog, language: str) -> None:
    unchanged = {
        source
        for message in entries(catalog)
        for source, form in zip(forms(message.id), forms(message.string), strict=False)
        if source == form
    }

    assert unchanged - same_words(language) == set()


def test_what_is_listed_as_the_same_exists(catalog: Catalog, language: str) -> None:
    known = {source for message in entries(catalog) for source in forms(message.id)}

    assert same_words(language) - known == set()


def found_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> list[Text]:
    monkeypatch.setattr(catalogues, "ROOT", tmp_path)
    for folder in ("mcp_oauth", "templates"):
        (tmp_path / folder).mkdir()
    for listing in ("known_servers.toml", "providers.toml"):
        (tmp_path / "mcp_oauth" / listing).touch()
    (tmp_path / name).write_text(source, encoding="utf-8")
    return list(catalogues.texts())


def test_texts_are_found_in_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """{% load i18n %}<p title="{% translate 'One' %}">
        {% translate "May" context "month" %} {{ value|default:_("Three") }} 100 %
      {% blocktranslate trimmed with name=server.name %}
         {{ name }} is
         connected
      {% endblocktranslate %}{# {% translate "Never" %} #}
    {% blocktranslate count counter=all %}{{ counter }} tool{% plural %}{{ counter }} tools{% endblocktranslate %}
    {% translate "100%" %}{% translate variable %}"""

    found = found_in(tmp_path, monkeypatch, "templates/page.html", source)

    assert {(text.entry, text.context) for text in found} == {
        ("One", None),
        ("May", "month"),
        ("Three", None),
        ("%(name)s is connected", None),
        (("%(counter)s tool", "%(counter)s tools"), None),
        ("100%%", None),
    }


def test_texts_are_found_in_python_and_in_the_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
first = _("One " "text")
second = ngettext("%(count)d tool", "%(count)d tools", count)
third = pgettext_lazy("month", "May")
fourth = sentence("The address %(problem)s.", problem=predicate("is empty"))
fifth = marked("Later")
_(variable)
"""

    found = found_in(tmp_path, monkeypatch, "mcp_oauth/module.py", source)

    assert {(text.entry, text.context) for text in found} == {
        ("One text", None),
        (("%(count)d tool", "%(count)d tools"), None),
        ("May", "month"),
        ("The address %(problem)s.", None),
        ("is empty", "predicate"),
        ("Later", None),
    }


def test_translations_outlive_an_update_and_what_nobody_says_any_more_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path / "locale")
    found_in(tmp_path, monkeypatch, "mcp_oauth/module.py", '_("Kept")\n_("Dropped")\n')
    catalogues.write()
    assert catalogues.outdated() == []
    path = catalogues.source_of("de")
    path.write_text(path.read_text(encoding="utf-8").replace('"Kept"\nmsgstr ""', '"Kept"\nmsgstr "Behalten"'))
    (tmp_path / "mcp_oauth" / "module.py").write_text('\n\n_("Kept")\n_("New")\n')

    catalogues.write()

    text = path.read_text(encoding="utf-8")
    assert 'msgid "Kept"\nmsgstr "Behalten"\n' in text
    assert 'msgid "New"\nmsgstr ""\n' in text
    assert "Dropped" not in text
    assert "Behalten" in path.with_suffix(".mo").read_bytes().decode("utf-8", "ignore")


def test_a_sentence_is_said_in_the_language_of_whoever_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"The address %(problem)s.": "Die Adresse %(problem)s.", "is empty": "ist leer", "Ask.": "Frag."}
    told = sentence("The address %(problem)s.", problem=predicate("is empty"))
    error = DiscoveryFailed(told, next_step=sentence("Ask."), document="https://a.example")

    def german(*parts: str) -> str:
        return words.get(parts[-1], parts[-1]) if translation.get_language() == "de" else parts[-1]

    monkeypatch.setattr("django.utils.translation._trans.gettext", german)
    monkeypatch.setattr("django.utils.translation._trans.pgettext", german)

    assert (told, str(error), error.user_message) == ("The address is empty.",) * 3
    with translation.override("de"):
        assert said(told) == error.user_message == "Die Adresse ist leer."
        assert error.as_json()["next_step"] == error.next_step == "Frag."
        assert str(error) == "The address is empty.", "The log speaks English."
        assert said("Plain, 100 %.") == "Plain, 100 %."


def test_a_sentence_is_stored_and_said_to_each_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    told = sentence("The address %(problem)s, %(count)d times.", problem=predicate("is empty"), count=2)
    stored = kept(told, 600)
    monkeypatch.setattr("django.utils.translation._trans.gettext", lambda text: text.replace("address", "Adresse"))
    monkeypatch.setattr("django.utils.translation._trans.pgettext", lambda context, text: f"{text}!")

    assert recalled(stored) == "The Adresse is empty!, 2 times."
    assert kept(told, 20) == recalled(kept(told, 20)) == str(told)[:20], "What is too long is kept in English."
    assert recalled(kept("Any text, 100 %", 600)) == "Any text, 100 %"


def test_no_words_of_a_server_are_taken_for_a_sentence() -> None:
    sent = '{"say":"%(x)99999d","as":"","of":{"x":1}}'

    for text in (sent, sent.ljust(600) + "!"):
        assert recalled(kept(text, 600)).strip() == text[:600].strip()


@pytest.mark.parametrize("stored", ['{"say":', '{"say":1}', '{"say":"%(x)s","as":"","of":{}}', '{"say":"a","of":[]}'])
def test_what_cannot_be_recalled_is_shown_as_it_is(stored: str) -> None:
    assert recalled(stored) in {stored, "%(x)s"}


def test_a_catalogue_with_other_placeholders_breaks_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.translation._trans.gettext", lambda text: "%(other)s")

    assert said(sentence("The issuer %(problem)s.", problem="x")) == "The issuer x."


def test_an_error_says_its_usual_next_step_in_the_readers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.utils.translation._trans.gettext", lambda text: text.upper())

    for error in McpOAuthError.__subclasses__():
        assert marked(error.default_next_step).upper() == said(error.default_next_step)


def test_no_phrase_is_glued_to_a_time_or_to_another() -> None:
    """Where the words around a time or between two things stand, every language decides."""
    glued = []
    beside_a_time = re.compile(
        r"""\{% translate "[^"]+" %\}\s*(?:\{% (?:ago|ahead) |\{% include "mcp_oauth/_time|<time|\{\{ [^}]*\|date)"""
    )
    for path in sorted((ROOT / "templates").rglob("*.html")):
        if path.name != "styleguide.html":
            glued += [(path.name, found) for found in beside_a_time.findall(path.read_text(encoding="utf-8"))]
    glued += [(text.path, form) for text in catalogues.texts() for form in forms(text.entry) if form != form.strip()]

    assert glued == []


def test_no_sentence_stands_in_a_script() -> None:
    """Scripts get their words from the page, where they are translated."""
    said_by_scripts = {
        (path.name, text)
        for path in (ROOT / "static" / "mcp_oauth").glob("*.js")
        for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', path.read_text(encoding="utf-8"))
        for text in text
        if re.search(r"(^|[^-\w.#\[>])[A-Z][a-z]+ [a-z]+|[a-z]{2,} [a-z]{2,} [a-z]{2,}|[a-z][.!?…]$", text)
    }

    assert said_by_scripts == set()


def test_nothing_is_translated_before_the_reader_is_known() -> None:
    """A text of a module or class is marked as lazy, or it would stay in the language of whoever came first."""
    early = []
    for path in sorted((ROOT / "mcp_oauth").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        at_once = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
            for alias in node.names
            if alias.name in {"gettext", "ngettext", "pgettext", "npgettext"}
        }
        later = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for part in (node.body if isinstance(node.body, list) else [node.body])
            for inner in ast.walk(part)
        }
        early += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in at_once
            and node not in later
        ]

    assert early == []


def test_every_column_has_a_name_for_people_in_every_language(language: str) -> None:
    columns = [
        field
        for model in apps.get_app_config("mcp_oauth").get_models()
        for field in model._meta.get_fields()
        if isinstance(field, Field)
    ]
    with translation.override("en"):
        english = {str(column): str(column.verbose_name) for column in columns}
    with translation.override(language):
        translated = {str(column): str(column.verbose_name) for column in columns}

    assert len(columns) > 100
    assert [column for column, name in translated.items() if name == english[column] and name != "ID"] == []
    assert [str(column) for column in columns if not isinstance(column.verbose_name, Promise)] == []


def test_nothing_is_untranslated(catalog: Catalog) -> None:
    assert [message.id for message in entries(catalog) if not all(forms(message.string))] == []
