"""What an administrator may change about OAuth for one server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qsl

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.server_words import printable, scope_tokens
from mcp_oauth.sentences import sentence

ResourceMode = Literal["auto", "include", "omit"]
RegistrationMode = Literal["auto", "preregistered", "cimd", "dynamic"]
TokenEndpointAuthMethod = Literal["", "none", "client_secret_post", "client_secret_basic", "private_key_jwt"]
DpopMode = Literal["auto", "off"]

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "resource": get_args(ResourceMode),
    "registration": get_args(RegistrationMode),
    "token_endpoint_auth_method": get_args(TokenEndpointAuthMethod),
    "dpop": get_args(DpopMode),
}
_SWITCHES: Final = frozenset(
    {"tolerate_missing_s256", "tolerate_issuer_mismatch", "tolerate_resource_mismatch", "legacy_endpoints"}
)
_WORDS_FOR_SWITCHES: Final[Mapping[str, bool]] = {
    "true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OAuthOptions:
    """One server's OAuth options; the defaults follow the specification to the letter.

    ``scopes`` replaces every scope the server or its metadata proposes. ``resource`` says whether RFC 8707's parameter
    is sent, ``audience`` and ``prompt`` are sent when not empty, ``extra_parameters`` join the authorization request.
    The ``tolerate_…`` options switch one check off each and are for servers known to need it (RFC 7636 §4.2,
    RFC 8414 §3.3, RFC 9728 §3.3). ``dpop`` says whether tokens are bound to a key where the authorization server
    announces that it can (RFC 9449 §5.1). ``legacy_endpoints`` marks a server of the 2025-03-26 specification.
    ``workload_token`` is the operator's name for the JWT with which the deployment says who it is; the ``idp_…``
    options say where a company's identity provider is and which client this application is there.
    """

    scopes: str = ""
    resource: ResourceMode = "auto"
    audience: str = ""
    prompt: str = ""
    extra_parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    registration: RegistrationMode = "auto"
    token_endpoint_auth_method: TokenEndpointAuthMethod = ""
    dpop: DpopMode = "auto"
    tolerate_missing_s256: bool = False
    tolerate_issuer_mismatch: bool = False
    tolerate_resource_mismatch: bool = False
    legacy_endpoints: bool = False
    workload_token: str = ""
    idp_issuer: str = ""
    idp_token_endpoint: str = ""
    idp_client_id: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OAuthOptions:
        """Return the options a JSON object describes; absent keys have their defaults.

        Raises: ConfigurationError naming the key that is unknown or holds a value of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise ConfigurationError(sentence("OAuth options must be a JSON object."))
        return cls(**{_known_key(key): _checked(key, value) for key, value in data.items()})

    def opt_outs(self) -> tuple[str, ...]:
        """Return the names of the checks that are switched off, so that this can be put on record."""
        return tuple(name for name in sorted(_SWITCHES) if getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as a JSON object."""
        default = OAuthOptions()
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["extra_parameters"] = dict(self.extra_parameters)
        return {name: value for name, value in values.items() if value != getattr(default, name)}


def parse_option(text: str) -> tuple[str, Any]:
    """Return key and typed value of ``KEY=VALUE`` as given on a command line.

    Switches take true/false, yes/no, on/off or 1/0; ``extra_parameters`` takes a JSON object or ``name=value&…``.
    Raises: ConfigurationError naming the key.
    """
    key, separator, value = text.partition("=")
    key = _known_key(key.strip())
    value = value.strip()
    if not separator:
        raise ConfigurationError(sentence("The OAuth option %(key)s needs a value: %(key)s=VALUE.", key=key))
    if key in _SWITCHES:
        try:
            return key, _WORDS_FOR_SWITCHES[value.lower()]
        except KeyError:
            raise ConfigurationError(sentence("The OAuth option %(key)s must be true or false.", key=key)) from None
    if key == "extra_parameters":
        return key, _checked(key, _parameters_from_text(value))
    return key, _checked(key, value)


def _known_key(key: object) -> str:
    if isinstance(key, str) and key in OAuthOptions.__dataclass_fields__:
        return key
    raise ConfigurationError(sentence("There is no OAuth option named %(key)r.", key=printable(str(key), 60)))


def _checked(key: str, value: Any) -> Any:
    if key in _SWITCHES:
        if not isinstance(value, bool):
            raise ConfigurationError(sentence("The OAuth option %(key)s must be true or false.", key=key))
        return value
    if key == "extra_parameters":
        return _checked_parameters(value)
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigurationError(sentence("The OAuth option %(key)s must be text on one line.", key=key))
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            choices = ", ".join(repr(choice) for choice in _CHOICES[key])
            raise ConfigurationError(
                sentence("The OAuth option %(key)s must be one of %(choices)s.", key=key, choices=choices)
            )
        return value
    if key == "scopes":
        tokens = scope_tokens(value)
        if len(tokens) != len(set(value.split())):
            raise ConfigurationError(
                sentence("The OAuth option scopes contains a character that no scope may contain.")
            )
        # A leading blank breaks Keycloak-like servers.
        return " ".join(tokens)
    return value.strip()


def _checked_parameters(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(sentence("The OAuth option extra_parameters must be an object of texts."))
    for name, text in value.items():
        if not (isinstance(name, str) and isinstance(text, str) and name and (name + text).isprintable()):
            raise ConfigurationError(
                sentence("The OAuth option extra_parameters must be an object of texts on one line.")
            )
    return dict(value)


def _parameters_from_text(text: str) -> Any:
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigurationError(sentence("The OAuth option extra_parameters is not JSON.")) from None
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError:
        raise ConfigurationError(
            sentence("The OAuth option extra_parameters must look like name=value&name=value.")
        ) from None
