"""The gallery's data: complete, consistent with what is known of providers, and refused with the mistake named."""

from __future__ import annotations

import pytest

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.known_servers import (
    KnownServer,
    category_titles,
    known_server_at,
    known_servers,
    parse_known_servers,
    shelves,
)
from mcp_oauth.services.providers import provider_of, providers

KNOWN = list(known_servers().values())
EVERYBODY_ASKS_FOR = {
    *("linear", "notion", "atlassian", "sentry", "github", "slack", "asana", "stripe", "hubspot", "figma"),
    *("cloudflare", "paypal", "intercom", "vercel", "canva", "square", "zapier", "supabase", "neon", "huggingface"),
}
ENTRY = """
[example]
name = "Example"
url = "https://mcp.example.com/mcp"
documentation = "https://example.com/docs"
sign_in = "oauth"
category = "planning"
summary = "Plans things."
"""


def test_the_servers_that_everybody_asks_for_are_in_the_gallery() -> None:
    assert known_servers().keys() >= EVERYBODY_ASKS_FOR


def test_every_provider_with_a_server_is_in_the_gallery() -> None:
    shown = {known.provider.key for known in KNOWN if known.provider is not None}

    assert shown == {provider.key for provider in providers().values() if provider.server_url}


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.key)
def test_a_known_server_has_one_sentence_and_usable_options(known: KnownServer) -> None:
    assert known.summary.endswith(".")
    assert known.summary[0].isupper()
    assert not known.notes or known.notes.endswith(".")
    OAuthOptions.from_json(known.options())
    assert known_server_at(known.url) is known
    assert known_server_at(known.url + "/") is known


def test_what_a_provider_needs_comes_with_its_server() -> None:
    assert known_servers()["atlassian"].options() == {"tolerate_issuer_mismatch": True}
    assert known_servers()["linear"].options() == {}
    assert known_servers()["vercel"].options() == {}


def test_an_address_beside_a_known_one_is_not_known() -> None:
    assert known_server_at("https://mcp.linear.app/other") is None
    assert known_server_at("https://mcp.linear.app.example.com/mcp") is None
    assert known_server_at("") is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("linear", {"linear"}),
        ("LINEAR issues", {"linear"}),
        ("jira", {"atlassian"}),
        ("payments square", {"square"}),
        ("mcp.figma.com", {"figma"}),
        ("no such thing", set()),
    ],
)
def test_a_search_looks_for_every_word_everywhere(query: str, found: set[str]) -> None:
    assert {known.key for shelf in shelves(query) for known in shelf.servers} == found


def test_the_gallery_shows_each_server_once_and_no_empty_shelf() -> None:
    shown = [known.key for shelf in shelves() for known in shelf.servers]

    assert sorted(shown) == sorted(known_servers())
    assert [shelf.category for shelf in shelves()] == list(category_titles())
    assert all(shelf.servers for shelf in shelves("postgres"))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("summary =", "gist =", "unknown key 'gist'"),
        ('sign_in = "oauth"', "", "lacks the key 'sign_in'"),
        ('"Plans things."', "7", "summary that is not text"),
        ('"Plans things."', '"two\\nlines"', "summary that is not text"),
        ('"Plans things."', '"' + "long " * 30 + '"', "summary of more than 90 characters"),
        ('"oauth"', '"magic"', "sign_in that is not one of"),
        ('"planning"', '"toys"', "category that is not one of"),
        ("https://mcp.example.com", "http://mcp.example.com", "unusable url"),
        ("https://example.com", "javascript:", "unusable documentation"),
        ('"Plans things."', '"Plans things."\nprovider = "nobody"', "provider 'nobody', which is not on record"),
        ('"Plans things."', '"Plans things."\nprovider = "linear"', "another address than its provider"),
        (ENTRY, "example = 7", "is not a table"),
        (ENTRY, "[example", "is not TOML"),
        (ENTRY, ENTRY + ENTRY.replace("[example]", "[other]"), "'other' has the address of 'example'"),
    ],
)
def test_an_entry_with_a_mistake_is_an_error_that_names_it(before: str, after: str, problem: str) -> None:
    assert before in ENTRY
    with pytest.raises(ConfigurationError, match=problem):
        parse_known_servers(ENTRY.replace(before, after, 1))


@pytest.mark.parametrize(
    ("issuer", "key"),
    [
        ("https://login.microsoftonline.com/0f3a/v2.0", "entra"),
        ("https://acme.auth0.com/", "auth0"),
        ("https://acme.eu.auth0.com", "auth0"),
        ("https://cognito-idp.eu-west-1.amazonaws.com/pool", "cognito"),
        ("https://acme.okta.com/oauth2/default", "okta"),
        ("https://login.example.com/realms/team", "keycloak"),
        ("https://login.example.com", None),
        ("https://auth0.com.example.com/", None),
        ("", None),
    ],
)
def test_an_identity_provider_is_recognised_by_its_issuer(issuer: str, key: str | None) -> None:
    found = provider_of("https://mcp.example.com/mcp", issuer)

    assert (found.key if found is not None else None) == key


def test_a_provider_is_recognised_by_its_servers_address_first() -> None:
    found = provider_of("https://mcp.slack.com/mcp/", "https://acme.okta.com")

    assert found is providers()["slack"]
