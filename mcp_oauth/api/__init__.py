"""JSON for programs and for the workspace's own scripts; one file a resource."""

from __future__ import annotations

from django.urls import URLPattern, path

from mcp_oauth.api import calls, content, document, servers, tools, workspaces
from mcp_oauth.api.answers import JsonApi, answered
from mcp_oauth.api.callers import PersonalToken, SessionCookie

api = JsonApi(
    title="MCP connections",
    version="1",
    description="Lists and runs the tools of MCP servers on behalf of one person.",
    urls_namespace="mcp_oauth",
    auth=[PersonalToken(), SessionCookie()],
)
document.schema_view(api)
for resource in (workspaces, servers, tools, calls, content):
    api.add_router("api/v1/", resource.router, tags=[resource.__name__.rpartition(".")[2]])

# The library adds a page that says where its documentation would be.
urlpatterns = [pattern for pattern in api.urls[0] if isinstance(pattern, URLPattern) and pattern.name != "api-root"]
for pattern in urlpatterns:
    pattern.callback = answered(pattern.callback)
urlpatterns.append(path("api/v1/docs/", document.page_view(api), name="api_docs"))
