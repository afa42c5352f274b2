"""Connects people to MCP servers and runs those servers' tools on their behalf.

Everything public is listed in ``__all__`` and imported on first use, so that ``INSTALLED_APPS`` costs nothing::

    from mcp_oauth import AuthorizationRequired, call_tool

    try:
        result = call_tool(server, user, "create_issue", {"title": "Printer on fire"})
    except AuthorizationRequired as needed:
        return redirect(needed.connect_url)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "call_tool": "mcp_oauth.services.calls",
    "acall_tool": "mcp_oauth.services.calls",
    "resume_call": "mcp_oauth.services.resumption",
    "aresume_call": "mcp_oauth.services.resumption",
    "cancel_call": "mcp_oauth.services.calls",
    "find_call": "mcp_oauth.services.calls",
    "Answer": "mcp_oauth.sessions.results",
    "list_tools": "mcp_oauth.services.catalog",
    "alist_tools": "mcp_oauth.services.catalog",
    "list_workspace_tools": "mcp_oauth.services.workspace_tools",
    "alist_workspace_tools": "mcp_oauth.services.workspace_tools",
    "list_resources": "mcp_oauth.services.resources",
    "alist_resources": "mcp_oauth.services.resources",
    "list_resource_templates": "mcp_oauth.services.resources",
    "alist_resource_templates": "mcp_oauth.services.resources",
    "read_resource": "mcp_oauth.services.resources",
    "aread_resource": "mcp_oauth.services.resources",
    "list_prompts": "mcp_oauth.services.prompts",
    "alist_prompts": "mcp_oauth.services.prompts",
    "get_prompt": "mcp_oauth.services.prompts",
    "aget_prompt": "mcp_oauth.services.prompts",
    "complete": "mcp_oauth.services.prompts",
    "acomplete": "mcp_oauth.services.prompts",
    "start_authorization": "mcp_oauth.services.connections",
    "finish_authorization": "mcp_oauth.services.callbacks",
    "disconnect": "mcp_oauth.services.connections",
    "McpOAuthError": "mcp_oauth.exceptions",
    "AuthorizationRequired": "mcp_oauth.exceptions",
    "AuthorizationFailed": "mcp_oauth.exceptions",
    "InputRequired": "mcp_oauth.exceptions",
    "ServerUnreachable": "mcp_oauth.exceptions",
    "ServerRefused": "mcp_oauth.exceptions",
    "NotAllowed": "mcp_oauth.exceptions",
}

__all__ = [
    "Answer",
    "AuthorizationFailed",
    "AuthorizationRequired",
    "InputRequired",
    "McpOAuthError",
    "NotAllowed",
    "ServerRefused",
    "ServerUnreachable",
    "acall_tool",
    "acomplete",
    "aget_prompt",
    "alist_prompts",
    "alist_resource_templates",
    "alist_resources",
    "alist_tools",
    "alist_workspace_tools",
    "aread_resource",
    "aresume_call",
    "call_tool",
    "cancel_call",
    "complete",
    "disconnect",
    "find_call",
    "finish_authorization",
    "get_prompt",
    "list_prompts",
    "list_resource_templates",
    "list_resources",
    "list_tools",
    "list_workspace_tools",
    "read_resource",
    "resume_call",
    "start_authorization",
]

if TYPE_CHECKING:
    from mcp_oauth.exceptions import (
        AuthorizationFailed,
        AuthorizationRequired,
        InputRequired,
        McpOAuthError,
        NotAllowed,
        ServerRefused,
        ServerUnreachable,
    )
    from mcp_oauth.services.callbacks import finish_authorization
    from mcp_oauth.services.calls import acall_tool, call_tool, cancel_call, find_call
    from mcp_oauth.services.catalog import alist_tools, list_tools
    from mcp_oauth.services.connections import disconnect, start_authorization
    from mcp_oauth.services.prompts import acomplete, aget_prompt, alist_prompts, complete, get_prompt, list_prompts
    from mcp_oauth.services.resources import (
        alist_resource_templates,
        alist_resources,
        aread_resource,
        list_resource_templates,
        list_resources,
        read_resource,
    )
    from mcp_oauth.services.resumption import aresume_call, resume_call
    from mcp_oauth.services.workspace_tools import alist_workspace_tools, list_workspace_tools
    from mcp_oauth.sessions.results import Answer


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
