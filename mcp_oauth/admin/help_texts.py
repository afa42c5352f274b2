"""What each field of the admin's forms is, in one line; the forms' own fields say it themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Texts = Mapping[str, Promise]

_PLACE: Final = _("The workspace the server belongs to.")
_SERVER: Final = _("The MCP server it is about.")
_RELATED: Final = _("Lists that show only this, and pages about it; the pages want a membership of the workspace.")
_SEALED: Final = _("Stored encrypted and shown to nobody.")
_ISSUER: Final = _("The authorization server, as it names itself.")
_CLIENT: Final = _("What this application is called at the authorization server.")

WORKSPACE: Final[Texts] = {
    "name": _("What people read above their pages."),
    "related": _RELATED,
    "connections_page": _("Where people of the workspace connect."),
}

MEMBERSHIP: Final[Texts] = {
    "workspace": _("Where the person belongs. It stays as it is once saved."),
    "user": _("Who belongs there. They need an account on this site."),
    "role": _("Members connect their own accounts and run tools; administrators also add servers and people."),
}

SERVER: Final[Texts] = {
    "workspace": _("Whose server it is; secrets are sealed for this workspace. It stays as it is once saved."),
    "name": _("What people read in their list of connections."),
    "related": _RELATED,
    "connections_page": _("Where people of the workspace connect to it."),
    "known_kind": _("How the server is opened, and whether somebody chose that or it was found out by asking."),
    "stored_headers": _("Sent with every request to this server and to no other host."),
    "stored_client_secret": _("Belongs to the client ID, and is sent to its issuer only."),
    "stored_initial_access_token": _("Shown to the issuer when this application registers there."),
    "stored_idp_client_secret": _("Sent to the company's identity provider only."),
    "register_with": _("What a provider asks for when a client is registered there by hand."),
    "options_as_text": _("What differs from the defaults."),
    "allowed_tools": _("Names or patterns of tools that may be run; all, where there are none."),
    "denied_tools": _("Names or patterns of tools that may not be run."),
    "reachable": _("Whether it answered when it was last contacted. It says nothing of anybody's access."),
    "contacted_at": _("When it was last asked for anything."),
    "last_error": _("Why the last contact failed; empty where it did not."),
    "headers_refused_at": _("Since when it does not accept the stored headers; empty where it does."),
    "last_verdict": _("What it turned out to be when it was last asked what it is."),
    "probed_at": _("When it was last asked what it is."),
    "probe_table": _("Each request of that, with its answer."),
    "protocol_version": _("The revision of MCP that was agreed upon, so that a call needs no handshake."),
    "active_grants": _("How many grants open it now."),
    "generation": _("How often a change made earlier grants invalid, counted from one."),
    "created_at": _("When it was added."),
}

GRANT: Final[Texts] = {
    "person": _("Whose grant it is; the workspace's where everybody shares one."),
    "account": _("Whose account it is at the provider, where that was said."),
    "server": _SERVER,
    "workspace": _PLACE,
    "related": _RELATED,
    "state": _("Whether it works, or only a person can mend it."),
    "reason": _("Why a person is needed; empty where none is."),
    "reason_at": _("Since when."),
    "stored_access_token": _SEALED,
    "stored_refresh_token": _("Stored encrypted and shown to nobody. Without one, access ends when the token expires."),
    "token_type": _("Bearer, or bound to a key of this grant (DPoP)."),
    "expires_at": _("When the access token ends; it is renewed before where there is a refresh token."),
    "scope": _("What was granted."),
    "issuer": _ISSUER,
    "resource": _("What the token is for, as the server names itself."),
    "token_endpoint": _("Where it is renewed."),
    "revocation_endpoint": _("Where it is revoked; without one it can only be forgotten here."),
    "client_id": _CLIENT,
    "token_endpoint_auth_method": _("How this application shows there who it is."),
    "connected_at": _("When the person agreed."),
    "refreshed_at": _("When it was last renewed."),
    "server_generation": _("Which state of the server's settings the person agreed to."),
    "version": _("Counts the changes of this row; of two at once the later one is refused."),
}

REGISTRATION: Final[Texts] = {
    "workspace": _("Whose client it is; it is never used for another workspace."),
    "kind": _("How this application became a client."),
    "issuer": _ISSUER,
    "redirect_uri": _("Where the authorization server sends people back to."),
    "client_id": _CLIENT,
    "token_endpoint_auth_method": _("How this application shows there who it is."),
    "stored_secret": _SEALED,
    "client_secret_expires_at": _("When the secret ends; a new client is registered then."),
    "created_at": _("When it was registered."),
}

FLOW: Final[Texts] = {
    "user": _("Who pressed Connect."),
    "server": _SERVER,
    "issuer": _ISSUER,
    "client_id": _CLIENT,
    "redirect_uri": _("Where the authorization server sends the person back to."),
    "resource": _("What the token is to be for."),
    "scope": _("What was asked for; empty where the server decides."),
    "created_at": _("When Connect was pressed."),
    "expires_at": _("An answer that comes later is refused."),
    "consumed_at": _("When the answer came; it is accepted once."),
}

LISTING: Final[Texts] = {
    "server": _SERVER,
    "kind": _("What is listed."),
    "person": _("Who sees these entries; everybody, where the server makes no difference."),
    "entry_count": _("How many there are."),
    "truncated": _("Whether the server offers more than is kept."),
    "fetched_at": _("When the server gave this list."),
    "fresh_until": _("Until when it is used without asking again; it is shown with its age after that."),
    "entry_names": _("The server's own words, and nothing to trust."),
}

CALL: Final[Texts] = {
    "tool": _("What was called."),
    "server": _SERVER,
    "workspace": _PLACE,
    "user": _("Who called it."),
    "state": _("How it stands."),
    "outcome": _("Why it failed, or what it waits for; a code for programs."),
    "attempt": _("How often it was set going: once more for each time it was resumed."),
    "started_at": _("When it began."),
    "ended_at": _("When it ended."),
    "duration_ms": _("How long the last attempt took, in milliseconds."),
    "deadline_at": _("When it must have ended; one that still runs later has lost its process."),
    "cancel_requested_at": _("When somebody gave it up."),
    "progress": _("How far it said to be."),
    "progress_total": _("Of how much."),
    "progress_message": _("The server's own words, and nothing to trust."),
    "resumable_until": _("Until when it can go on, where it waits."),
    "held_by": _("The process that keeps its exchange open; empty where any process may go on."),
    "stored_arguments": _("Kept encrypted, only while it waits."),
    "stored_pending": _("Kept encrypted, only while it waits."),
    "stored_answers": _("Kept encrypted until the process that holds the call takes them."),
    "stored_result": _("Kept encrypted for a short while, where somebody may ask for it in another request."),
    "erase_at": _("When what is kept goes."),
    "server_generation": _("Which state of the server's settings it was meant for."),
}

EVENT: Final[Texts] = {
    "at": _("When it happened."),
    "kind": _("What happened."),
    "outcome": _("How it ended, in one word of a program."),
    "server_name": _("What the server was called then; empty where it concerns the whole workspace."),
    "server_key": _("The server's key, also of one that is gone."),
    "workspace_name": _("Where it happened; a key where the workspace is gone."),
    "person": _("Whose grant, token or membership it is."),
    "done_by": _("Who did it; the application, where nobody did."),
    "grant_id": _("The grant's key, also of one that is gone."),
    "details_as_text": _("What else is known. No secret is in it."),
}

TOKEN: Final[Texts] = {
    "hint": _("The characters the token begins with, to tell it from others."),
    "user": _("For whom it speaks."),
    "workspace": _("Where it does, and nowhere else."),
    "created_at": _("When it was made."),
    "expires_at": _("When it ends."),
    "last_used_at": _("When a program last used it, to about a minute."),
    "revoked_at": _("When it was revoked; empty while it is in force."),
}
