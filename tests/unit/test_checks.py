"""The system checks: each finds the deployment it is about, and is silent about a good one."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.middleware.csrf import CsrfViewMiddleware

from tests.settings import MCP_OAUTH

# Django's own checks, which run as well, may look into the database.
pytestmark = pytest.mark.django_db

GOOD: dict[str, Any] = {"PUBLIC_URL": "https://app.example.com", "ALLOW_LOOPBACK": False}
NOT_CALLABLE = "a text"


def found(settings: Any, **changes: Any) -> set[str]:
    settings.MCP_OAUTH = {**MCP_OAUTH, **GOOD, **changes}
    ids = {message.id or "" for message in run_checks(include_deployment_checks=True)}
    return {name for name in ids if name.startswith("mcp_oauth.")}


SHARED_CACHE = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1"}}


class OwnCsrf(CsrfViewMiddleware):
    """A site's own variant."""


@pytest.fixture(autouse=True)
def _deployment(settings: Any) -> None:
    settings.CACHES = SHARED_CACHE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"ENCRYPTION_KEYS": ()}, {"mcp_oauth.E001"}),
        ({"ENCRYPTION_KEYS": ("too short",)}, {"mcp_oauth.E002"}),
        ({"NO_SUCH_SETTING": 1}, {"mcp_oauth.E003"}),
        ({"IDENTITY_TOKEN_PROVIDER": "tests.no_such_module.tokens"}, {"mcp_oauth.E004"}),
        ({"IDENTITY_TOKEN_PROVIDER": f"{__name__}.NOT_CALLABLE"}, {"mcp_oauth.E004"}),
        ({"IDENTITY_TOKEN_PROVIDER": f"{__name__}.found"}, set()),
        ({"PUBLIC_URL": ""}, {"mcp_oauth.W001"}),
        ({"PUBLIC_URL": "http://app.example.com"}, {"mcp_oauth.W002"}),
        ({"ALLOW_LOOPBACK": True}, {"mcp_oauth.W003"}),
        ({"REFRESH_LEASE_SECONDS": 10.0, "OAUTH_REQUEST_SECONDS": 10.0}, {"mcp_oauth.W004"}),
    ],
)
def test_a_deployment_is_told_what_is_wrong_with_it(settings: Any, changes: dict[str, Any], expected: set[str]) -> None:
    assert found(settings, **changes) == expected


@pytest.mark.requirement("T40")
@pytest.mark.parametrize("name", ["SessionMiddleware", "CsrfViewMiddleware", "AuthenticationMiddleware"])
def test_a_site_without_what_the_pages_rely_on_is_told(settings: Any, name: str) -> None:
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if not path.endswith(f".{name}")]

    assert "mcp_oauth.E005" in found(settings)


def test_a_variant_of_what_the_pages_rely_on_will_do(settings: Any) -> None:
    settings.MIDDLEWARE = [
        f"{__name__}.OwnCsrf" if path.endswith(".CsrfViewMiddleware") else path for path in settings.MIDDLEWARE
    ]

    assert found(settings) == set()


@pytest.mark.requirement("T43")
def test_a_cache_of_each_process_alone_is_reported_for_a_deployment(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

    assert found(settings) == {"mcp_oauth.W005"}
