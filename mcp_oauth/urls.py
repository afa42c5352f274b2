"""The application's addresses; include them at the root of a site."""

from __future__ import annotations

from django.urls import path
from django.views.i18n import set_language

from mcp_oauth import api
from mcp_oauth.views import (
    account,
    activity,
    adding,
    editing,
    importing,
    members,
    oauth,
    pages,
    running,
    servers,
    tokens,
    toolbox,
    waiting,
)

app_name = "mcp_oauth"

urlpatterns = [
    path("workspaces/", pages.home, name="home"),
    path("workspaces/<slug:slug>/mcp/", pages.settings, name="settings"),
    path("workspaces/<slug:slug>/mcp/activity/", activity.activity, name="activity"),
    path("workspaces/new/", members.new_workspace, name="new_workspace"),
    path("workspaces/<slug:slug>/members/", members.members_page, name="members"),
    path("workspaces/<slug:slug>/members/<uuid:membership_id>/role/", members.role, name="member_role"),
    path("workspaces/<slug:slug>/members/<uuid:membership_id>/remove/", members.remove, name="member_remove"),
    path("workspaces/<slug:slug>/mcp/add/", adding.add, name="add"),
    path("workspaces/<slug:slug>/mcp/add/ask/", adding.ask, name="ask"),
    path("workspaces/<slug:slug>/mcp/import/", importing.import_servers_page, name="import_servers"),
    path("workspaces/<slug:slug>/mcp/export/", importing.export_page, name="export_servers"),
    path("workspaces/<slug:slug>/mcp/tools/", toolbox.tools, name="tools"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/", servers.server, name="server"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/run/", running.run, name="run"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/edit/", editing.edit, name="edit"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/delete/", servers.delete, name="delete"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/keep/", servers.keep, name="keep"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/refresh/", servers.refresh, name="refresh"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/diagnose/", servers.diagnose, name="diagnose"),
    path("workspaces/<slug:slug>/mcp/<uuid:server_id>/waiting/", waiting.waiting, name="waiting"),
    path(
        "workspaces/<slug:slug>/mcp/<uuid:server_id>/waiting/<uuid:call_id>/", waiting.waiting_call, name="waiting_call"
    ),
    path("account/", account.account_page, name="account"),
    path("account/disconnect/", account.disconnect_everything, name="disconnect_everything"),
    path("account/language/", set_language, name="language"),
    path("mcp/oauth/start/", oauth.start, name="start"),
    path("mcp/oauth/callback/", oauth.callback, name="callback"),
    path("mcp/oauth/cancel/", oauth.cancel, name="cancel"),
    path("mcp/oauth/decline/", oauth.decline, name="decline"),
    path("mcp/oauth/disconnect/", oauth.disconnect, name="disconnect"),
    path("mcp/oauth/client.json", oauth.client_metadata, name="client_metadata"),
    path("account/tokens/", tokens.tokens, name="tokens"),
    path("account/tokens/<uuid:token_id>/revoke/", tokens.revoke, name="revoke_token"),
    *api.urlpatterns,
]
