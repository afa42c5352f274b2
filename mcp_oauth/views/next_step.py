"""The one thing to press beside a server, and the way to say no to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from mcp_oauth.models import AuthorizationFlow, McpServer
from mcp_oauth.services.workspaces import Place
from mcp_oauth.views.standing import Action, Group, Standing

# A server that answered so was reached; asking once more changes nothing, and its documents say what is wrong.
_WRONG_ANSWERS = frozenset({"server_refused", "redirect_refused", "response_too_large", "address_blocked"})
_NO_SERVER = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Step:
    """One thing to press: a link, or a button that posts ``name`` and ``value`` to its address.

    ``look`` is a button's class. ``connects``: it leads to the authorization server. ``stays``: its answer is the list
    again, so that script can show what is new where one is.
    """

    key: str
    label: str
    url: str
    look: str = ""
    name: str = ""
    value: str = ""
    is_link: bool = False
    connects: bool = False
    stays: bool = False


def next_action(place: Place, server: McpServer, standing: Standing) -> Action:
    """Return the one step that is offered: the standing's own, or what helps a server that was not reached."""
    if standing.action != "none" or not server.is_in_use or server.reachable is not False:
        return standing.action
    return "diagnose" if place.is_admin and server.contact_error_code in _WRONG_ANSWERS else "retry"


def step_for(server: McpServer, action: Action, group: Group, links: Mapping[str, str]) -> Step | None:
    """Return what is pressed for an action."""
    pk = str(server.pk)
    if action in {"connect", "reconnect", "grant_access", "open_again"}:
        labels = {
            "connect": _("Connect with OAuth"),
            "reconnect": _("Reconnect"),
            "grant_access": _("Grant access"),
            "open_again": _("Open again"),
        }
        # The strong colour only where something is wanted of the person.
        look = {"connect": "soft", "open_again": ""}.get(action, "strong")
        return Step("connect", labels[action], links["start"], look, "server", pk, connects=True)
    if action == "retry":
        return Step("retry", _("Retry"), links["refresh"], stays=True)
    if action == "diagnose":
        return Step("diagnose", _("Diagnose"), links["diagnose"], "strong" if group == "needs_you" else "")
    if action == "enter_headers":
        return Step("enter", _("Enter the key"), links["edit"], "strong", is_link=True)
    if action == "keep":
        return Step("keep", _("Keep it"), links["keep"], "soft", stays=True)
    if action == "continue":
        return Step("continue", _("Continue"), links["waiting"], "strong", is_link=True)
    if action == "sign_in":
        return Step("leave", _("Sign in again"), links["sign_out"], "strong") if links["sign_out"] else None
    return Step("tools", _("Tools"), links["tools"], is_link=True)


def step_aside(
    server: McpServer, action: Action, flow: AuthorizationFlow | None, links: Mapping[str, str]
) -> Step | None:
    """Return the way to say no to what is offered."""
    if action == "open_again" and flow is not None:
        return Step("cancel", _("Cancel"), links["cancel"], "quiet", "flow", str(flow.pk), stays=True)
    if action == "grant_access":
        return Step("decline", _("Not now"), links["decline"], "quiet", "server", str(server.pk), stays=True)
    return None


def addresses_in(place: Place) -> dict[str, str]:
    """Return the addresses of a server's pages, with a mark in the server's place: one look-up a page and not a row."""
    names = {"slug": place.workspace.slug, "server_id": _NO_SERVER}
    of_a_server = {
        "tools": "server",
        **{name: name for name in ("refresh", "edit", "delete", "keep", "diagnose", "waiting")},
    }
    try:
        sign_out = reverse("logout")
    except NoReverseMatch:  # the site signs people in by other means
        sign_out = ""
    return {
        **{name: reverse(f"mcp_oauth:{view}", kwargs=names) for name, view in of_a_server.items()},
        **{name: reverse(f"mcp_oauth:{name}") for name in ("start", "cancel", "decline", "disconnect")},
        "sign_out": sign_out,
    }


def links_of(server: McpServer, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of one server's pages."""
    return {name: pattern.replace(_NO_SERVER, str(server.pk)) for name, pattern in addresses.items()}
