"""System checks: what is wrong with a deployment before the first person presses Connect."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mcp_oauth.conf import settings
from mcp_oauth.crypto import KeyRing
from mcp_oauth.exceptions import ConfigurationError


@register(Tags.security)
def check_encryption_keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a key ring that is empty or cannot be read (mcp_oauth.E001, E002)."""
    try:
        keys = settings.ENCRYPTION_KEYS
    except ImproperlyConfigured as error:
        return [Error(str(error), id="mcp_oauth.E003")]
    if not keys:
        return [
            Error(
                "MCP_OAUTH['ENCRYPTION_KEYS'] is empty, so no token can be stored.",
                hint='Make one: python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"',
                id="mcp_oauth.E001",
            )
        ]
    try:
        KeyRing(keys)
    except ConfigurationError as error:
        text = f"MCP_OAUTH['ENCRYPTION_KEYS'] cannot be used: {error.user_message}"
        return [Error(text, hint=error.next_step, id="mcp_oauth.E002")]
    return []


@register(Tags.security)
def check_public_url(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a missing or plain-http public address (mcp_oauth.W001, W002)."""
    try:
        public_url, allow_loopback = settings.PUBLIC_URL, settings.ALLOW_LOOPBACK
    except ImproperlyConfigured:
        return []  # E003 says it
    if not public_url:
        return [
            Warning(
                "MCP_OAUTH['PUBLIC_URL'] is not set; nobody can connect with OAuth.",
                hint="Set it to the address people use, for example https://app.example.com.",
                id="mcp_oauth.W001",
            )
        ]
    if not public_url.startswith("https://") and not allow_loopback:
        return [
            Warning(
                "MCP_OAUTH['PUBLIC_URL'] is not https; authorization servers refuse such redirect URIs.",
                id="mcp_oauth.W002",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def check_loopback_switch(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report the development switch in a deployment (mcp_oauth.W003)."""
    try:
        allowed = settings.ALLOW_LOOPBACK and not django_settings.DEBUG
    except ImproperlyConfigured:
        return []  # E003 says it
    if not allowed:
        return []
    return [
        Warning(
            "MCP_OAUTH['ALLOW_LOOPBACK'] is on: plain http and this host's own services can be reached.",
            hint="Turn it off outside development.",
            id="mcp_oauth.W003",
        )
    ]


@register()
def check_refresh_lease(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a lease that may end before the request it covers (mcp_oauth.W004)."""
    try:
        covered = settings.REFRESH_LEASE_SECONDS > settings.OAUTH_REQUEST_SECONDS
    except ImproperlyConfigured:
        return []  # E003 says it
    if covered:
        return []
    return [
        Warning(
            "MCP_OAUTH['REFRESH_LEASE_SECONDS'] is not longer than OAUTH_REQUEST_SECONDS: two processes may renew "
            "one token at once.",
            hint="Make the lease longer than one request.",
            id="mcp_oauth.W004",
        )
    ]


@register()
def check_identity_token_provider(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a source of identity tokens that cannot be called (mcp_oauth.E004)."""
    try:
        dotted_path = settings.IDENTITY_TOKEN_PROVIDER
    except ImproperlyConfigured:
        return []  # E003 says it
    if not dotted_path:
        return []
    try:
        usable, why = callable(import_string(dotted_path)), "it is not callable"
    except ImportError as error:
        usable, why = False, str(error)
    if usable:
        return []
    return [
        Error(
            f"MCP_OAUTH['IDENTITY_TOKEN_PROVIDER'] cannot be used: {why}.",
            hint="Set it to the dotted path of a callable (user, server) -> IdentityToken | None.",
            id="mcp_oauth.E004",
        )
    ]


@register(Tags.security)
def check_middleware(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report middleware without which the pages are not safe or do not work (mcp_oauth.E005)."""
    missing = [
        name for name in _MIDDLEWARE if not any(_is_or_extends(path, name) for path in django_settings.MIDDLEWARE)
    ]
    return [
        Error(
            f"MIDDLEWARE lacks {name}.",
            hint="The pages of mcp_oauth rely on it: who somebody is, and that a form was sent from this site.",
            id="mcp_oauth.E005",
        )
        for name in missing
    ]


_MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)


def _is_or_extends(path: str, wanted: str) -> bool:
    if path == wanted:
        return True
    try:
        found, base = import_string(path), import_string(wanted)
    except ImportError:
        return False  # Django's own checks and its start say so
    return isinstance(found, type) and issubclass(found, base)


@register(Tags.security, deploy=True)
def check_cache(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a cache that each process has for itself (mcp_oauth.W005)."""
    backend = django_settings.CACHES.get("default", {}).get("BACKEND", "")
    if not backend.endswith(("locmem.LocMemCache", "dummy.DummyCache")):
        return []
    return [
        Warning(
            "The default cache is not shared between processes, so the limits per person hold for each process alone.",
            hint="Use a shared cache, for example Redis.",
            id="mcp_oauth.W005",
        )
    ]
