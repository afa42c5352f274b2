"""Who asks: a person in their browser, or a program that holds one of their API tokens."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from mcp_oauth.exceptions import NotAllowed, NotFound, NotSignedIn
from mcp_oauth.models import McpServer
from mcp_oauth.services import api_tokens
from mcp_oauth.services.workspaces import Person, server_for


@dataclass(frozen=True)
class Caller:
    """A person, and the one workspace they can be spoken for where a token does it."""

    user: Person
    workspace_id: uuid.UUID | None = None

    def sees(self, workspace_id: uuid.UUID) -> bool:
        """Whether a workspace is within reach as far as the token goes; membership is the services' question."""
        return self.workspace_id in (None, workspace_id)

    def server(self, server_id: uuid.UUID) -> McpServer | uuid.UUID:
        """Return a server as the services take it, who check that the person may use it.

        Raises:
            NotFound: it is none of the person's, or not in the token's workspace.
        """
        if self.workspace_id is None:
            return server_id
        server = server_for(self.user, server_id)
        if not self.sees(server.workspace_id):
            raise NotFound(_("There is no server of that name for you."))
        return server


class ApiRequest(HttpRequest):
    """A request whose caller is known."""

    auth: Caller


class PersonalToken(AuthBase):
    """An API token in the header ``Authorization: Bearer`` (RFC 6750 §2.1); cookies beside it are not looked at."""

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "A personal API token, mcpo_…, for one workspace."

    def __call__(self, request: HttpRequest) -> Caller | None:
        """Return who the token speaks for, or ``None`` where there is none.

        Raises:
            NotSignedIn: it is not accepted.
        """
        scheme, _space, secret = request.headers.get("Authorization", "").partition(" ")
        # Another scheme is somebody else's: a proxy's Basic password travels with every request of a browser.
        if scheme.lower() != "bearer":
            return None
        token = api_tokens.resolve(secret.strip())
        return Caller(token.user, token.workspace_id)


class SessionCookie(AuthBase):
    """The session of a signed-in person, with the CSRF token where something is done."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = "sessionid"
    openapi_description = "The session of a signed-in browser; a POST also needs the header X-CSRFToken."

    def __call__(self, request: HttpRequest) -> Caller:
        """Return who is signed in.

        Raises:
            NotSignedIn: nobody is.
            NotAllowed: another site may have sent the request.
        """
        if not request.user.is_authenticated:
            raise NotSignedIn(_("You are not signed in."))
        if check_csrf(request) is not None:
            raise NotAllowed(
                _("The request does not carry this site's CSRF token."),
                next_step=_("Send the CSRF cookie's value in the header X-CSRFToken, or use an API token."),
            )
        return Caller(request.user)
