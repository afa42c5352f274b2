"""What is stored, and which model owns which fact."""

from mcp_oauth.models.api_token import ApiToken
from mcp_oauth.models.call import ToolCall
from mcp_oauth.models.catalogue import StoredListing
from mcp_oauth.models.event import Event
from mcp_oauth.models.flow import AuthorizationFlow
from mcp_oauth.models.grant import McpServerOAuth
from mcp_oauth.models.registration import OAuthRegistration
from mcp_oauth.models.server import UNATTENDED_MODES, McpServer
from mcp_oauth.models.workspace import Membership, Workspace

__all__ = [
    "UNATTENDED_MODES",
    "ApiToken",
    "AuthorizationFlow",
    "Event",
    "McpServer",
    "McpServerOAuth",
    "Membership",
    "OAuthRegistration",
    "StoredListing",
    "ToolCall",
    "Workspace",
]
