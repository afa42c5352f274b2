"""People read the pages in the language they choose, or else in the one their browser asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.template import Context, Template
from django.test import Client
from django.utils import timezone, translation
from pytest_django import Settings

from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.templatetags import moments
from mcp_oauth.templatetags.languages import SPOKEN
from mcp_oauth.views.tools import tool_view
from tests.people import browser_of, member, new_workspace

pytestmark = pytest.mark.django_db

LOGIN = "/accounts/login/"
CHOOSE = "/account/language/"


@pytest.fixture
def person() -> User:
    return member(new_workspace())


def language_of(answer: object) -> str:
    return str(answer.content.decode()).partition('<html lang="')[2].partition('"')[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "told"), [("", "en"), ("de-AT,de;q=0.9", "de"), ("es-MX", "es"), ("fr, es;q=0.5", "es"), ("fr", "en")]
)
def test_the_browsers_language_is_spoken_where_nobody_chose(asked: str, told: str) -> None:
    answer = Client().get(LOGIN, headers={"Accept-Language": asked})

    assert language_of(answer) == answer.headers["Content-Language"] == told
    assert {"Accept-Language", "Cookie"} <= {part.strip() for part in answer.headers["Vary"].split(",")}


def test_a_choice_wins_over_the_browser_and_leads_back_to_the_page() -> None:
    client = Client(headers={"Accept-Language": "es"})

    answer = client.post(f"{CHOOSE}?next=/accounts/login/%3Fnext%3D/account/", {"language": "de"})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login/?next=/account/")
    cookie = answer.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("de", True, "Lax")
    assert language_of(client.get(LOGIN)) == "de"


def test_a_time_stands_where_a_language_wants_it() -> None:
    phrase = Template(
        "{% load i18n moments %}{% blocktranslate with when=then|ago %}begun {{ when }}{% endblocktranslate %}"
    )

    with translation.override("de"):
        shown = phrase.render(Context({"then": timezone.now() - timedelta(minutes=5)}))

    assert re.fullmatch(r'<time datetime="[^"]+" title="[^"]+" data-ago>vor 5 Minuten</time> begonnen', shown)


@pytest.mark.parametrize(
    ("schema", "english", "german"),
    [
        ({"type": ["string"]}, "string", "string"),
        ({"type": ["string", "null"]}, "string or null", "string oder null"),
        ({"anyOf": [{"type": kind} for kind in ("a", "b", "c")]}, "a, b or c", "a, b oder c"),
        ({"anyOf": []}, "", ""),
    ],
)
def test_types_of_which_one_holds_are_a_list_in_the_readers_language(
    schema: dict[str, object], english: str, german: str
) -> None:
    tool = ToolDescription("choose", input_schema={"type": "object", "properties": {"which": schema}})

    for language, words in (("en", english), ("de", german)):
        with translation.override(language):
            assert [parameter.type for parameter in tool_view(tool, "/run/").parameters] == [words]


def test_a_choice_leads_to_no_other_site() -> None:
    answer = Client().post(f"{CHOOSE}?next=https://elsewhere.example/", {"language": "de"})

    assert answer.headers["Location"] == "/"


def test_nothing_is_chosen_by_a_link_or_a_stranger(person: User) -> None:
    client = Client(enforce_csrf_checks=True)

    client.get(CHOOSE, {"language": "de"})
    refused = client.post(CHOOSE, {"language": "de"})

    assert refused.status_code == 403
    assert settings.LANGUAGE_COOKIE_NAME not in client.cookies


def test_a_language_that_is_not_there_is_not_chosen() -> None:
    client = Client()

    client.post(CHOOSE, {"language": "fr"})

    assert language_of(client.get(LOGIN)) == "en"


@pytest.mark.parametrize("path", [LOGIN, "/account/"])
def test_every_language_is_offered_by_its_own_name(path: str, person: User) -> None:
    client = Client() if path == LOGIN else browser_of(person)

    page = client.get(path, headers={"Accept-Language": "de"}).content.decode()

    for code, name in settings.LANGUAGES:
        current = ' aria-current="true"' if code == "de" else ""
        assert f'name="language" value="{code}" lang="{code}"{current}>' in page
        assert name in page


def test_a_page_that_answered_a_form_leads_home_after_a_choice(person: User) -> None:
    client = browser_of(person)

    page = client.post("/account/tokens/", {"name": "", "workspace": "", "days": ""}).content.decode()

    assert 'formaction="/account/language/?next=%2F"' in page


def test_no_choice_is_offered_where_the_site_would_not_heed_it(person: User, settings: Settings) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.endswith("LocaleMiddleware")]

    assert 'name="language"' not in browser_of(person).get("/account/").content.decode()


def test_what_is_offered_is_what_there_are_translations_for() -> None:
    folder = Path(moments.__file__).parent.parent / "locale"

    assert set(SPOKEN) == {"en", *(path.name for path in folder.iterdir())} == {code for code, _ in settings.LANGUAGES}


def test_the_choice_is_kept_apart_from_the_document_of_the_client() -> None:
    answers = [Client().get("/mcp/oauth/client.json", headers={"Accept-Language": code}).content for code in SPOKEN]

    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    ("distance", "past", "future"),
    [
        (timedelta(seconds=59), "just now", "just now"),
        (timedelta(minutes=1), "1 minute ago", "in 1 minute"),
        (timedelta(hours=23, minutes=59), "23 hours ago", "in 23 hours"),
        (timedelta(days=1), "1 day ago", "in 1 day"),
        (timedelta(days=20), "2 weeks ago", "in 2 weeks"),
        (timedelta(days=65), "2 months ago", "in 2 months"),
        (timedelta(days=800), "2 years ago", "in 2 years"),
    ],
)
def test_a_time_is_told_in_its_largest_unit(
    distance: timedelta, past: str, future: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)

    assert f">{past}<" in moments.ago(now - distance)
    assert f">{future}<" in moments.ahead(now + distance)


def test_dates_and_numbers_are_written_as_the_language_does() -> None:
    at = datetime(2026, 12, 31, 15, 5, tzinfo=UTC)
    page = Template("{% load moments %}{% ago at %} {{ number }}")

    with translation.override("de"):
        german = page.render(Context({"at": at, "number": 1.5}))
    with translation.override("es"):
        spanish = page.render(Context({"at": at, "number": 1.5}))

    assert 'title="31. Dezember 2026 15:05"' in german
    assert german.endswith(" 1,5")
    assert 'title="31 de diciembre de 2026 a las 15:05"' in spanish
