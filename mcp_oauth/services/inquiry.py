"""One diagnosis under way: what is asked about, the evidence so far, and what failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.authorization_server import GrantType
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.discovery import grant_type_of
from mcp_oauth.services.evidence import Evidence, Stage, Verdict
from mcp_oauth.services.probes import ProbeReport


@dataclass
class Inquiry:
    """What every stage of a diagnosis reads and adds to.

    ``server`` is ``None`` for an address that is not saved. ``failures`` holds what would keep people from connecting
    or calling, in the order in which it was found.
    """

    url: str
    server: McpServer | None
    options: OAuthOptions
    evidence: Evidence
    failures: list[McpOAuthError] = field(default_factory=list)

    @property
    def grant_type(self) -> GrantType:
        """The grant type that the server's token is asked for with."""
        return grant_type_of(self.server.auth_mode if self.server is not None else "")

    def uses_oauth(self, report: ProbeReport) -> bool:
        """Whether a token stands between this application and the server, as an administrator says or it shows."""
        if self.server is not None:
            return self.server.uses_grants
        return report.auth_mode == McpServer.AuthMode.OAUTH or self.options.legacy_endpoints

    def note_error(self, stage: Stage, what: str, verdict: Verdict, url: str, error: McpOAuthError) -> None:
        """Leave a fact behind in the words of an error; whether it is a failure, the stage decides."""
        self.evidence.fact(stage, what, verdict, error.user_message, url=url, error=error)
