"""The project's settings, read from the environment (https://12factor.net/config)."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def text(name: str, default: str = "") -> str:
    """Return an environment variable without surrounding space; empty counts as not set."""
    return os.environ.get(name, "").strip() or default


def flag(name: str) -> bool:
    """Return whether an environment variable is switched on.

    Raises:
        ImproperlyConfigured: it is neither a yes nor a no.
    """
    value = text(name).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")


def listed(name: str) -> list[str]:
    """Return the comma-separated parts of an environment variable."""
    return [part.strip() for part in text(name).split(",") if part.strip()]


def pairs(name: str) -> dict[str, str]:
    """Return the comma-separated ``name=value`` parts of an environment variable.

    Raises:
        ImproperlyConfigured: a part has no name or no value.
    """
    found = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in listed(name))}
    if not all(key and value for key, value in found.items()):
        raise ImproperlyConfigured(f"{name} must look like name=value,name=value.")
    return found


def development_bytes(purpose: str) -> bytes:
    """Return 32 bytes that stay the same in this checkout; anybody who knows its path knows them."""
    return hashlib.sha256(f"{purpose} of the development checkout at {BASE_DIR}".encode()).digest()


def database(url: str) -> dict[str, Any]:
    """Return the ``DATABASES`` entry for a database URL; empty means ``db.sqlite3`` beside ``manage.py``.

    Raises:
        ImproperlyConfigured: the URL cannot be read. The message leaves it out, for it may hold a password.
    """
    try:
        entry: dict[str, Any] = (
            dict(dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True))
            if url
            else {"ENGINE": "django.db.backends.sqlite3", "NAME": str(BASE_DIR / "db.sqlite3")}
        )
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read. Examples: sqlite:///db.sqlite3, postgres://user:password@host:5432/name "
            "(percent-encode special characters of the password)."
        ) from None
    if entry["ENGINE"] == "django.db.backends.sqlite3":
        entry["OPTIONS"] = {
            # Readers go on while one writes.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            # A transaction that will write waits for its turn at BEGIN; one that upgrades midway cannot wait.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            **entry.get("OPTIONS", {}),
        }
    return entry


def cache(url: str) -> dict[str, Any]:
    """Return the ``CACHES`` entry for a cache URL; empty means this process's memory.

    Raises:
        ImproperlyConfigured: the scheme is not one of ``redis``, ``rediss``, ``locmem``.
    """
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
    if scheme in {"", "locmem"}:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    raise ImproperlyConfigured(f"CACHE_URL must begin with redis://, rediss:// or locmem://, not {scheme}://.")


DEBUG = flag("DEBUG")

# The components of the pages in every state, at /styleguide/; for those who work on them.
SHOW_STYLEGUIDE = DEBUG or flag("SHOW_STYLEGUIDE")

SECRET_KEY = text("SECRET_KEY")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. Make one with\n\n"
            '    python -c "import secrets; print(secrets.token_urlsafe(50))"\n\n'
            "and keep it in the environment. For development set DEBUG=1 instead."
        )
    SECRET_KEY = "django-insecure-" + development_bytes("SECRET_KEY").hex()

ENCRYPTION_KEYS = listed("MCP_OAUTH_ENCRYPTION_KEYS")
if not ENCRYPTION_KEYS:
    if not DEBUG:
        raise ImproperlyConfigured(
            "MCP_OAUTH_ENCRYPTION_KEYS is not set, so no token could be stored. Make a key with\n\n"
            '    python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"\n\n'
            "and keep it in the environment and in a safe place: what was sealed with it is lost without it. "
            "To rotate, put the new key before the old ones, separated by a comma. "
            "For development set DEBUG=1 instead."
        )
    ENCRYPTION_KEYS = [base64.b64encode(development_bytes("MCP_OAUTH_ENCRYPTION_KEYS")).decode()]

# Scheme and host people reach this site at; the OAuth redirect URI is built from it.
PUBLIC_URL = text("PUBLIC_URL", "http://127.0.0.1:8000" if DEBUG else "")
PUBLIC_HOST = urlsplit(PUBLIC_URL).hostname or ""
PUBLIC_IS_HTTPS = PUBLIC_URL.startswith("https://")

ALLOWED_HOSTS = listed("ALLOWED_HOSTS") or ([PUBLIC_HOST] if PUBLIC_HOST else [])
if DEBUG:
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, "localhost", "127.0.0.1", "[::1]"]

MCP_OAUTH: dict[str, Any] = {
    "ENCRYPTION_KEYS": ENCRYPTION_KEYS,
    "PUBLIC_URL": PUBLIC_URL,
    "ALLOW_LOOPBACK": flag("MCP_OAUTH_ALLOW_LOOPBACK"),
    "CLIENT_METADATA_URL": text("MCP_OAUTH_CLIENT_METADATA_URL"),
    "IDENTITY_TOKEN_PROVIDER": text("MCP_OAUTH_IDENTITY_TOKEN_PROVIDER"),
    "WORKLOAD_TOKENS": pairs("MCP_OAUTH_WORKLOAD_TOKENS"),
    "OUTBOUND_HOSTS": listed("MCP_OAUTH_OUTBOUND_HOSTS"),
    "OUTBOUND_PRIVATE_HOSTS": listed("MCP_OAUTH_OUTBOUND_PRIVATE_HOSTS"),
    "OUTBOUND_PROXY": text("MCP_OAUTH_OUTBOUND_PROXY"),
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "mcp_oauth",
    "project",
]

MIDDLEWARE = [
    # First, so that redirects, static files and error pages carry the headers too.
    "project.security.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    # The person's choice, from its cookie, or else what the browser asks for.
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database(text("DATABASE_URL"))}
CACHES = {"default": cache(text("CACHE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = LOGIN_URL

# What visitors get whose browser asks for none of the languages there are; commands speak English.
LANGUAGE_CODE = text("LANGUAGE_CODE", "en")
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("es", "Español")]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_SECURE = PUBLIC_IS_HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# With finders nothing has to be collected first. In a deployment collectstatic gives every file a name with
# its hash in it, which browsers may keep for ever.
WHITENOISE_USE_FINDERS = DEBUG or flag("WHITENOISE_USE_FINDERS")
STATIC_URL = "/static/"
# WhiteNoise warns of a missing directory it was given and, with finders, has no need of.
STATIC_ROOT = None if WHITENOISE_USE_FINDERS and not DEBUG else BASE_DIR / "staticfiles"
STATICFILES_DIRS = [path for path in [BASE_DIR / "static"] if path.is_dir()]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# Behind a proxy that ends TLS, and only there: the proxy must set X-Forwarded-Proto itself and drop what a
# visitor sent. Without it such a deployment redirects to https in a circle.
if flag("TRUST_PROXY_HEADERS"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

SECURE_SSL_REDIRECT = PUBLIC_IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_IS_HTTPS else 0
# Other hosts under this one, and browsers' preload lists, are not this application's to decide about.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = PUBLIC_IS_HTTPS
SESSION_COOKIE_HTTPONLY = True
# Lax and not Strict: an authorization server sends the person back from another site.
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = PUBLIC_IS_HTTPS
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [f"https://{urlsplit(PUBLIC_URL).netloc}"] if PUBLIC_IS_HTTPS else []
# Django's SecurityMiddleware sends these where a view has not set its own.
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Django's own handlers print only under DEBUG or mail administrators.
        "django": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # One line per request of the demonstration's servers, with its full URL, at INFO.
        "httpx2": {"level": "WARNING"},
    },
}
