"""Reads the JWT by which the platform vouches for this deployment, afresh for every request."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.foreign_tokens import addressed_to
from mcp_oauth.oauth.options import OAuthOptions

logger = logging.getLogger(__name__)

# Platforms' tokens are one to three KiB; whatever is longer is another file.
MAXIMUM_BYTES = 16 * 1024
_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def workload_token(options: OAuthOptions, metadata: AuthorizationServerMetadata) -> str:
    """Return the deployment's token for one authorization server, as the platform has it now.

    The token is for whom it is addressed to: a server that an administrator adds names its authorization server
    itself, and must not be handed what opens another one.

    Raises:
        ConfigurationError: no such token, its file cannot be used, or it is addressed to somebody else.
    """
    name = options.workload_token
    token = _read(name, _path_of(name))
    if not addressed_to(token, issuer=metadata.issuer, token_endpoint=metadata.token_endpoint):
        raise ConfigurationError(
            _("The workload token “%(name)s” is not addressed to %(issuer)s.")
            % {"name": name, "issuer": metadata.issuer},
            next_step=_("Ask the operator for a token whose audience is this authorization server."),
            document=metadata.document,
        )
    return token


def check_name(name: str) -> None:
    """Refuse a name the operator has given to no token.

    Raises:
        ConfigurationError: with what there is to choose from.
    """
    _path_of(name)


def _path_of(name: str) -> Path:
    path = settings.WORKLOAD_TOKENS.get(name)
    if path is None:
        raise ConfigurationError(
            _("The operator has named no workload token “%(name)s”.") % {"name": name[:60]},
            next_step=_("Enter one of these as the option workload_token: %(names)s.")
            % {"names": ", ".join(sorted(settings.WORKLOAD_TOKENS)) or _("none so far; ask the operator")},
        )
    return Path(path)


def _read(name: str, path: Path) -> str:
    # Read each time: the platform replaces the file well before the token in it ends.
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1).strip()
    except OSError as error:
        # The path is the operator's business: it is logged, and said to nobody else.
        logger.warning("workload token %s cannot be read from %s: %s", name, path, error.strerror)
        raise _unusable(name, _("its file cannot be read")) from None
    if len(content) > MAXIMUM_BYTES:
        raise _unusable(name, _("its file is too large"))
    if not _JWT.fullmatch(content):
        raise _unusable(name, _("its file does not hold a JWT"))
    return content.decode("ascii")


def _unusable(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        _("The workload token “%(name)s” cannot be used: %(why)s.") % {"name": name, "why": why},
        next_step=_("Ask the operator to check MCP_OAUTH['WORKLOAD_TOKENS']."),
    )
