"""The system checks: each finds the deployment it is about, and is silent about a good one."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

from tests.settings import MCP_OAUTH

GOOD: dict[str, Any] = {"PUBLIC_URL": "https://app.example.com", "ALLOW_LOOPBACK": False}
NOT_CALLABLE = "a text"


def found(settings: Any, **changes: Any) -> set[str]:
    settings.MCP_OAUTH = {**MCP_OAUTH, **GOOD, **changes}
    ids = {message.id or "" for message in run_checks(include_deployment_checks=True)}
    return {name for name in ids if name.startswith("mcp_oauth.")}


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
