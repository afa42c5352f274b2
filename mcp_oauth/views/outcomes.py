"""How calls and events ended, in words: what a program's code means to a person, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

# What happened, and what helps; the latter empty where nothing does.
Words = tuple[Promise | str, Promise | str]

_LOOK: Final = _("Look at the server for what was done, and run the tool again if you want it.")
_ADMIN: Final = _("An administrator can check the server's settings, or press Diagnose.")
_CONNECT: Final = _("Connect again on the connections page.")
_AGAIN: Final = _("Run the tool again.")
_LATER: Final = _("Try again in a while; if it stays so, an administrator can press Diagnose.")

# By the codes of errors, and the outcomes of calls that are none.
CALLS: Final[Mapping[str, Words]] = {
    "tool_error": (_("The tool itself reported an error."), _("Look at what it was asked to do.")),
    "expired": (_("It waited too long and was given up."), _AGAIN),
    "replaced": (_("Too many calls waited at once, and this was the oldest."), _AGAIN),
    "server_changed": (_("An administrator changed the server while the call waited."), _AGAIN),
    "cancelled": (_("It was given up."), _LOOK),
    "interrupted": (_("The process that ran it went away; nobody knows whether the tool ran."), _LOOK),
    "timeout": (_("The server took too long."), _LOOK),
    "server_unreachable": (_("The server could not be reached."), _LATER),
    "address_blocked": (_("The server's address is not one that may be contacted."), _ADMIN),
    "response_too_large": (_("The server's answer was too large."), _("Ask the tool for less at once.")),
    "redirect_refused": (_("The server sent this application to another address."), _ADMIN),
    "server_refused": (_("The server answered with an error."), _LATER),
    "insufficient_scope": (_("The tool needs more access than was granted."), _("Press Grant access.")),
    "credentials_refused": (_("The server does not accept what this application shows it."), _ADMIN),
    "reauth_required": (_("The access has to be granted first, or again."), _CONNECT),
    "input_required": (_("The server asks something before it goes on."), _("Answer it.")),
    "tool_not_found": (_("The server offers no tool of that name."), _("Choose one of its tools.")),
    "tool_not_allowed": (
        _("An administrator does not let this tool be run."),
        _("Ask an administrator of the workspace to allow it."),
    ),
    "invalid_request": (_("The arguments did not fit."), _("Correct them and run the tool again.")),
    "call_not_resumable": (_("The call could not go on any more."), _AGAIN),
    "configuration_error": (_("The server's settings cannot work as they are."), _ADMIN),
    "invalid_address": (_("The server's address is not one that may be contacted."), _ADMIN),
    "secret_unreadable": (_("Something that was stored can no longer be read."), _CONNECT),
    "not_allowed": (_("This was not allowed."), _("Ask an administrator of the workspace.")),
    "not_signed_in": (_("Nobody was signed in."), _("Sign in and try again.")),
    "not_found": (_("The server or the person was removed meanwhile."), ""),
    "too_many_requests": (_("It was tried too often in a short time."), _("Wait a minute and try again.")),
    "authorization_failed": (_("The provider did not grant access."), _CONNECT),
    "discovery_failed": (_("A document of the provider is missing or wrong."), _ADMIN),
    "registration_required": (_("The provider wants an administrator to register a client."), _ADMIN),
    "registration_failed": (_("The provider refused to register this application."), _ADMIN),
    "callback_refused": (_("The answer did not belong to this attempt to connect."), _CONNECT),
    "access_denied": (_("The person or the provider declined."), _("Connect again if that was a mistake.")),
    "token_request_failed": (_("The provider refused to hand out a token."), _ADMIN),
    "invalid_grant": (_("What was granted is expired, used or revoked."), _CONNECT),
    "invalid_client": (_("The provider does not know this application any more."), _ADMIN),
    "token_endpoint_unavailable": (
        _("The provider was not available for a while."),
        _("Nothing has to be done; it is tried again by itself."),
    ),
}

# Why an access ended, and why a call waits for it.
REASONS: Final[Mapping[str, Words]] = {
    "not_connected": (_("The account had not been connected yet."), _("Connect it on the connections page.")),
    "expired": (_("It expired, and the server gave no way to renew it."), _CONNECT),
    "revoked": (_("The server no longer accepts it; it was revoked or has expired."), _CONNECT),
    "rejected": (_("The server rejects it although it was just renewed."), _CONNECT),
    "refused": (_("The provider refused to renew it."), _CONNECT),
    "client_forgotten": (_("The provider no longer knows this application."), _CONNECT),
    "unreadable": (_("What was stored can no longer be read."), _CONNECT),
    "server_changed": (_("An administrator changed the server."), _CONNECT),
    "sign_in_again": (_("The company sign-in no longer opens the server."), _("Sign out here and sign in again.")),
    "misconfigured": (_("The provider does not accept this application's own identity."), _ADMIN),
    "insufficient_scope": (_("The tool needs more access than was granted."), _("Press Grant access.")),
}

REVOCATIONS: Final[Mapping[str, Words]] = {
    "confirmed": (_("The provider confirmed it."), ""),
    "not_offered": (_("The provider offers no revocation; the access is only forgotten here."), ""),
    "nothing_to_revoke": (_("There was nothing left to revoke."), ""),
}
NOT_CONFIRMED: Final[Words] = (
    _("The provider did not confirm it; the access is forgotten here."),
    _("Remove this application in your account at the provider as well."),
)


def why(code: str, among: Mapping[str, Words]) -> tuple[str, str]:
    """Return what a code means and what to do about it; of one nobody wrote words for, nothing."""
    what, step = among.get(code, ("", ""))
    return str(what), str(step)
