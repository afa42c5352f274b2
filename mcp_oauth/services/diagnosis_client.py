"""What a diagnosis says of the client: which one would be used, and how it would prove itself."""

from __future__ import annotations

import copy
from typing import Final

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, McpOAuthError, RegistrationRequired
from mcp_oauth.models import McpServer, OAuthRegistration
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.registration import RegistrationKind, choose_registration, preferred_auth_method
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.services.inquiry import Inquiry
from mcp_oauth.services.registrations import client_metadata_url, preregistered_client, redirect_uri

# Of those at one issuer, one is used; the others were forgotten there.
MOST_REGISTRATIONS: Final = 5


class ClientInquiry:
    """The client at one authorization server; ``kind`` and ``auth_method`` say what is known, as far as it went."""

    def __init__(self, inquiry: Inquiry, metadata: AuthorizationServerMetadata) -> None:
        self.inquiry = inquiry
        self.server = inquiry.server
        self.options = inquiry.options
        self.evidence = inquiry.evidence
        self.metadata = metadata
        self.kind: RegistrationKind | None = None
        self.auth_method = ""

    def look(self) -> None:
        """Say what would be used; nothing is registered, and a failure is noted and not raised."""
        try:
            self.kind = self._choose()
            if self.kind == "preregistered":
                self._preregistered()
            elif self.kind == "cimd":
                note = _(
                    "The client ID is the address of this application's own metadata document, %(url)s, because the "
                    "authorization server reads such documents."
                )
                self._client_fact(note % {"url": client_metadata_url()})
                self._existing(OAuthRegistration.Kind.CIMD)
                self._method_fact("none", _("a client that is a metadata document has no secret"))
            else:
                self._dynamic()
        except McpOAuthError as error:
            self.inquiry.failures.append(error)
            self.inquiry.note_error(
                "registration",
                "client",
                "refused",
                self.metadata.registration_endpoint or self.metadata.document,
                error,
            )

    def _choose(self) -> RegistrationKind:
        has_client = self.server is not None and self.server.has_preregistered_client
        if self.server is not None and self.server.is_unattended:
            if has_client:
                return "preregistered"
            raise ConfigurationError(
                _("%(server)s is opened without asking anybody, but no client is entered.")
                % {"server": self.server.name},
                next_step=self._by_hand(),
                field="client_id",
                rule=_("RFC 6749 §4.4: a client asks for a token of its own as itself"),
            )
        try:
            return choose_registration(
                self.metadata,
                has_preregistered=has_client,
                client_metadata_url=client_metadata_url(),
                options=self.options,
            )
        except RegistrationRequired as error:
            raise RegistrationRequired(
                error.user_message,
                next_step=self._by_hand(),
                document=error.document,
                field=error.field,
                rule=error.rule,
                option=error.option,
            ) from error

    def _by_hand(self) -> str:
        """Say how to register a client by hand, and where its ID belongs."""
        text = _("Create an OAuth client at the provider with the redirect URI %(uri)s.") % {"uri": redirect_uri()}
        if self.server is None:
            return text + " " + _("Enter its client ID when you add the server (add_mcp_server --client-id).")
        names = {"slug": self.server.workspace.slug, "server_id": self.server.pk}
        page = settings.public_url + reverse("mcp_oauth:edit", kwargs=names)
        return text + " " + _("Enter its client ID at %(page)s, under “Client at the provider”.") % {"page": page}

    def _preregistered(self) -> None:
        if self.server is None:
            return
        self._require_own_issuer(self.server)
        # A copy that knows its issuer, because the look-up binds a client to the first issuer it sees.
        bound = copy.copy(self.server)
        bound.client_issuer = self.metadata.issuer
        credentials = preregistered_client(bound, self.metadata, self.options)
        note = _("The client %(id)s is used, because an administrator entered it.")
        self._client_fact(note % {"id": printable(credentials.client_id, 200)})
        reasons = {
            "none": _("no secret is stored"),
            "private_key_jwt": _("a private key is stored in the secret's place"),
        }
        reason = reasons.get(credentials.token_endpoint_auth_method, _("a secret is stored, and the metadata takes it"))
        if self.options.token_endpoint_auth_method:
            reason = _("the option token_endpoint_auth_method says so")
        self._method_fact(credentials.token_endpoint_auth_method, reason)

    def _require_own_issuer(self, server: McpServer) -> None:
        """Refuse an issuer that what an administrator entered does not belong to.

        Raises:
            ConfigurationError: it belongs to another one.
        """
        if server.client_issuer and server.client_issuer != self.metadata.issuer:
            raise ConfigurationError(
                _("The registered client belongs to %(theirs)s, but the server now names %(found)s.")
                % {"theirs": server.client_issuer, "found": self.metadata.issuer},
                next_step=_("Check with the provider; if the move is genuine, enter the new client and its issuer."),
                document=self.metadata.document,
                field="issuer",
                rule=_("MCP authorization: a client belongs to the one issuer that knows it"),
            )

    def _dynamic(self) -> None:
        current = self._existing(OAuthRegistration.Kind.DYNAMIC)
        if current is None:
            note = _(
                "This application registers itself when somebody connects, because no client is entered and the "
                "authorization server has a registration endpoint."
            )
            if self.server is not None and _has_initial_access_token(self.server):
                self._require_own_issuer(self.server)
                note += " " + _("It shows the token that an administrator entered for this.")
            self._client_fact(note, url=self.metadata.registration_endpoint or "")
            reason = _("it is the first of ours that the server offers")
            if self.options.token_endpoint_auth_method:
                reason = _("the option token_endpoint_auth_method says so")
            self._method_fact(preferred_auth_method(self.metadata, self.options), reason)
            return
        self._method_fact(current.token_endpoint_auth_method, _("the client was registered with it"))

    def _existing(self, kind: OAuthRegistration.Kind) -> OAuthRegistration | None:
        """Show the clients this workspace has at the issuer, and return the one that would be used."""
        if self.server is None:
            return None
        usable: OAuthRegistration | None = None
        rows = OAuthRegistration.objects.filter(
            workspace_id=self.server.workspace_id, issuer=self.metadata.issuer, redirect_uri=redirect_uri(), kind=kind
        ).defer("client_secret")
        for row in rows.order_by("-created_at")[:MOST_REGISTRATIONS]:
            about = {"id": printable(row.client_id, 200), "day": date_format(row.created_at, "DATE_FORMAT")}
            text = _("The client %(id)s, since %(day)s.") % about
            expires = row.client_secret_expires_at
            if expires is not None:
                text += " " + _("Its secret expires on %(day)s.") % {"day": date_format(expires, "DATE_FORMAT")}
            if row.forgotten_at is None and (expires is None or expires > timezone.now()):
                usable = row
                self.evidence.fact("registration", "registered client", "ok", text, field="client_id")
                continue
            next_step = _("Nothing is to be done: the next connection registers another client.")
            if row.forgotten_at is not None:
                text += " " + _("The authorization server no longer knows it.")
            self.evidence.fact("registration", "earlier client", "absent", text, field="client_id", next_step=next_step)
        return usable

    def _client_fact(self, note: str, *, url: str = "") -> None:
        self.evidence.fact("registration", "client", "ok", note, url=url)

    def _method_fact(self, method: str, reason: str) -> None:
        """Say how the client proves itself at the token endpoint, and whether that is offered there."""
        self.auth_method = method
        offered = self.metadata.token_endpoint_auth_methods_supported
        words = _("%(method)s, because %(reason)s.") % {"method": method, "reason": reason}
        if offered is not None and method not in offered:
            self.evidence.fact(
                "token_endpoint",
                "client authentication",
                "warning",
                words + " " + _("The authorization server does not offer it."),
                url=self.metadata.token_endpoint,
                field="token_endpoint_auth_methods_supported",
                rule=_("RFC 8414 §2: token_endpoint_auth_methods_supported lists how clients may authenticate"),
                option="token_endpoint_auth_method",
            )
        else:
            self.evidence.fact("token_endpoint", "client authentication", "ok", words, url=self.metadata.token_endpoint)


def _has_initial_access_token(server: McpServer) -> bool:
    # Asked of the database, because reading the attribute would open it.
    return McpServer.objects.filter(pk=server.pk, initial_access_token__isnull=False).exists()
