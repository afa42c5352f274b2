"""The project's settings read the environment, and say what is missing together with the way to make it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

PRODUCTION = {
    "SECRET_KEY": "a production key of a test",
    "MCP_OAUTH_ENCRYPTION_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "PUBLIC_URL": "https://connect.example.com",
}

PRINT_SETTINGS = """
import json
from project import settings
print(json.dumps({name: getattr(settings, name) for name in dir(settings) if name.isupper()}, default=str))
"""


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python code in the project's root with nothing in the environment but what is given."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings_of(environment: dict[str, str]) -> dict[str, Any]:
    """Return the settings a process with this environment has."""
    done = run(PRINT_SETTINGS, environment)
    assert done.returncode == 0, done.stderr
    settings: dict[str, Any] = json.loads(done.stdout)
    return settings


def refusal_of(environment: dict[str, str]) -> str:
    """Return the message a process with this environment stops with."""
    done = run(PRINT_SETTINGS, environment)
    assert done.returncode == 1
    assert "ImproperlyConfigured" in done.stderr
    return done.stderr.partition("ImproperlyConfigured: ")[2]


@pytest.mark.parametrize(
    ("name", "length"), [("SECRET_KEY", 60), ("MCP_OAUTH_ENCRYPTION_KEYS", 44)], ids=["secret", "encryption"]
)
def test_a_missing_key_is_refused_with_a_command_that_makes_one(name: str, length: int) -> None:
    message = refusal_of({key: value for key, value in PRODUCTION.items() if key != name})

    assert message.startswith(f"{name} is not set")
    command = next(line for line in message.splitlines() if "python -c" in line)
    code = command.partition('"')[2].rpartition('"')[0]
    made = run(code, {}).stdout.strip()
    assert len(made) >= length
    assert settings_of({**PRODUCTION, name: made})


def test_an_empty_variable_counts_as_missing() -> None:
    assert refusal_of({**PRODUCTION, "SECRET_KEY": ""}).startswith("SECRET_KEY is not set")


def test_debug_needs_no_key_and_keeps_the_ones_it_derives() -> None:
    first, second = settings_of({"DEBUG": "1"}), settings_of({"DEBUG": "1"})

    assert first["SECRET_KEY"].startswith("django-insecure-")
    assert first["SECRET_KEY"] == second["SECRET_KEY"]
    assert first["MCP_OAUTH"] == second["MCP_OAUTH"]
    assert first["MCP_OAUTH"]["ENCRYPTION_KEYS"][0] not in first["SECRET_KEY"]
    assert first["MCP_OAUTH"]["ALLOW_LOOPBACK"] is False


def test_an_https_address_turns_the_https_protections_on() -> None:
    settings = settings_of(PRODUCTION)

    assert settings["SESSION_COOKIE_SECURE"] is True
    assert settings["CSRF_COOKIE_SECURE"] is True
    assert settings["SECURE_SSL_REDIRECT"] is True
    assert settings["SECURE_HSTS_SECONDS"] > 0
    assert settings["ALLOWED_HOSTS"] == ["connect.example.com"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://connect.example.com"]
    assert settings["DEBUG"] is False


def test_a_plain_address_leaves_cookies_usable() -> None:
    settings = settings_of({**PRODUCTION, "PUBLIC_URL": "http://127.0.0.1:8000"})

    assert settings["SESSION_COOKIE_SECURE"] is False
    assert settings["SECURE_SSL_REDIRECT"] is False
    assert settings["SECURE_HSTS_SECONDS"] == 0


def test_proxy_headers_are_trusted_only_when_asked() -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in settings_of(PRODUCTION)

    trusting = settings_of({**PRODUCTION, "TRUST_PROXY_HEADERS": "1"})
    assert trusting["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]


def test_encryption_keys_keep_their_order() -> None:
    settings = settings_of({**PRODUCTION, "MCP_OAUTH_ENCRYPTION_KEYS": " newest , , older "})

    assert settings["MCP_OAUTH"]["ENCRYPTION_KEYS"] == ["newest", "older"]


def test_sqlite_waits_for_its_turn_and_lets_readers_go_on() -> None:
    for url in ("", "sqlite:///named.sqlite3"):
        database = settings_of({**PRODUCTION, "DATABASE_URL": url})["DATABASES"]["default"]

        assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
        assert database["OPTIONS"]["timeout"] > 0


def test_a_database_url_is_taken_apart() -> None:
    url = "postgres://user:p%40ss@db.example.com:5433/connect"
    database = settings_of({**PRODUCTION, "DATABASE_URL": url})["DATABASES"]["default"]

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"]) == ("user", "p@ss")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example.com", 5433, "connect")


def test_an_unreadable_database_url_is_refused_without_its_password() -> None:
    done = run(PRINT_SETTINGS, {**PRODUCTION, "DATABASE_URL": "postgres://user:hunter2@host:not-a-port/name"})

    assert done.returncode == 1
    assert "DATABASE_URL cannot be read" in done.stderr
    assert "hunter2" not in done.stderr


def test_cache_url_chooses_redis_or_memory() -> None:
    redis = settings_of({**PRODUCTION, "CACHE_URL": "redis://127.0.0.1:6379/1"})["CACHES"]["default"]
    memory = settings_of(PRODUCTION)["CACHES"]["default"]

    assert redis["BACKEND"].endswith("RedisCache")
    assert memory["BACKEND"].endswith("LocMemCache")
    assert refusal_of({**PRODUCTION, "CACHE_URL": "memcached://host"}).startswith("CACHE_URL must begin with")


def test_a_switch_that_is_neither_yes_nor_no_is_refused() -> None:
    assert refusal_of({**PRODUCTION, "DEBUG": "maybe"}).startswith("DEBUG must be 1 or 0")


def test_a_deployment_serves_hashed_files_and_development_needs_no_collecting() -> None:
    deployed = settings_of(PRODUCTION)
    assert "Manifest" in deployed["STORAGES"]["staticfiles"]["BACKEND"]
    assert deployed["WHITENOISE_USE_FINDERS"] is False

    for environment in ({"DEBUG": "1"}, {**PRODUCTION, "WHITENOISE_USE_FINDERS": "1"}):
        settings = settings_of(environment)
        assert "Manifest" not in settings["STORAGES"]["staticfiles"]["BACKEND"]
        assert settings["WHITENOISE_USE_FINDERS"] is True


def test_django_finds_nothing_to_warn_about_in_a_deployment() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            **PRODUCTION,
            "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz" * 2,
            "CACHE_URL": "redis://127.0.0.1:6379/0",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_workload_tokens_are_named_files() -> None:
    given = {**PRODUCTION, "MCP_OAUTH_WORKLOAD_TOKENS": "tracker=/run/tracker/token, wiki=/run/wiki/token"}

    assert settings_of(given)["MCP_OAUTH"]["WORKLOAD_TOKENS"] == {
        "tracker": "/run/tracker/token",
        "wiki": "/run/wiki/token",
    }
    assert settings_of(PRODUCTION)["MCP_OAUTH"]["WORKLOAD_TOKENS"] == {}


@pytest.mark.parametrize("value", ["/run/token", "tracker=", "=/run/token"])
def test_workload_tokens_without_name_or_file_are_refused(value: str) -> None:
    assert refusal_of({**PRODUCTION, "MCP_OAUTH_WORKLOAD_TOKENS": value}).startswith("MCP_OAUTH_WORKLOAD_TOKENS must")
