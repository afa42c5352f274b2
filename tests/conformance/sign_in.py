"""Stands for the site's company sign-in: it keeps the ID token that the suite issued to each person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_oauth.oauth.identity import IdentityToken

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser

    from mcp_oauth.models import McpServer

# The environment variable in which the runner names the folder.
SIGN_INS = "CONFORMANCE_SIGN_INS"


def keep(folder: Path, name: str, token: str) -> None:
    """Sign a person in: keep what the identity provider issued."""
    (folder / f"{name}.id_token").write_text(token, encoding="utf-8")


def identity_token(user: AbstractUser, server: McpServer) -> IdentityToken | None:
    """Return a person's ID token, as ``IDENTITY_TOKEN_PROVIDER`` is asked for it."""
    file = Path(os.environ[SIGN_INS]) / f"{user.get_username()}.id_token"
    return IdentityToken(file.read_text(encoding="utf-8")) if file.exists() else None
