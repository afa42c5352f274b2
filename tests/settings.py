"""The project's settings as the tests run them; ``DATABASE_URL`` and ``CACHE_URL`` are taken as they are."""

from __future__ import annotations

import base64
import os
import tempfile

# Assigned, not defaulted: a developer's shell must not decide what the tests mean. Processes that tests start
# inherit them.
os.environ.update(
    SECRET_KEY="the tests' key, which signs nothing that lasts",
    MCP_OAUTH_ENCRYPTION_KEYS=base64.b64encode(bytes(range(32))).decode(),
    MCP_OAUTH_ALLOW_LOOPBACK="1",
    MCP_OAUTH_CLIENT_METADATA_URL="",
    MCP_OAUTH_IDENTITY_TOKEN_PROVIDER="",
    MCP_OAUTH_WORKLOAD_TOKENS="",
    PUBLIC_URL="http://127.0.0.1:8000",
    ALLOWED_HOSTS="",
    DEBUG="0",
    SHOW_STYLEGUIDE="1",
    TRUST_PROXY_HEADERS="0",
    WHITENOISE_USE_FINDERS="1",
)

from project.settings import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A connection that a test's thread leaves open keeps PostgreSQL from dropping the test database.
DATABASES["default"]["CONN_MAX_AGE"] = 0

if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # A test database has no use for surviving a crash, and waiting for the disk is most of the time a test takes there.
    DATABASES["default"].setdefault("OPTIONS", {})["options"] = "-c synchronous_commit=off"

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file and not memory: threads and processes of one test must see the same rows, as in a deployment.
    DATABASES["default"]["TEST"] = {
        "NAME": os.path.join(tempfile.gettempdir(), f"mcp-oauth-tests-{os.getpid()}.sqlite3")
    }

# A process that a test starts shares that test's part of the cache.
CACHES["default"]["KEY_PREFIX"] = os.environ.get("MCP_OAUTH_TEST_CACHE_PREFIX", "tests")
