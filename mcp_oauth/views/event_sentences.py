"""One whole sentence for every kind of event, by whose grant or doing it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models import Event

Whose = Literal["yours", "theirs", "shared"]
_Kind = Event.Kind


@dataclass(frozen=True)
class Sentences:
    """The sentence for the reader's own, for somebody else's, and for the workspace's."""

    yours: Promise
    theirs: Promise
    shared: Promise


def _alike(text: Promise) -> Sentences:
    return Sentences(text, text, text)


def sentence_of(kind: str, outcome: str, whose: Whose) -> str:
    """Return the sentence of an event, with ``{person}``, ``{server}`` and ``{name}`` where names belong.

    Of a kind that nobody wrote one for, it is the kind's name.
    """
    sentences = _SENTENCES.get((kind, outcome)) or _SENTENCES.get((kind, ""))
    if sentences is None:
        return str(dict(_Kind.choices).get(kind, kind)).replace("{", "{{").replace("}", "}}")
    return str(getattr(sentences, whose))


# By kind and outcome; an empty outcome stands for all that have no sentence of their own.
_SENTENCES: Final[Mapping[tuple[str, str], Sentences]] = {
    (_Kind.CONNECTED, ""): Sentences(
        _("Your account at {server} was connected"),
        _("{person}'s account at {server} was connected"),
        _("The workspace was connected to {server}"),
    ),
    (_Kind.CONNECTION_FAILED, ""): Sentences(
        _("Connecting your account at {server} failed"),
        _("Connecting {person}'s account at {server} failed"),
        _("Connecting the workspace to {server} failed"),
    ),
    (_Kind.REFRESHED, ""): Sentences(
        _("Your access to {server} was renewed"),
        _("{person}'s access to {server} was renewed"),
        _("The workspace's access to {server} was renewed"),
    ),
    (_Kind.REFRESH_FAILED, ""): Sentences(
        _("Your access to {server} could not be renewed for now"),
        _("{person}'s access to {server} could not be renewed for now"),
        _("The workspace's access to {server} could not be renewed for now"),
    ),
    (_Kind.STEP_UP, ""): Sentences(
        _("A tool at {server} asked for more access than you granted"),
        _("A tool at {server} asked for more access than {person} granted"),
        _("A tool at {server} asked for more access than the workspace has"),
    ),
    (_Kind.REAUTHORIZATION_NEEDED, ""): Sentences(
        _("Your access to {server} ended"),
        _("{person}'s access to {server} ended"),
        _("The workspace's access to {server} ended"),
    ),
    (_Kind.REVOKED, ""): Sentences(
        _("The provider was told to end your access to {server}"),
        _("The provider was told to end {person}'s access to {server}"),
        _("The provider was told to end the workspace's access to {server}"),
    ),
    (_Kind.DISCONNECTED, ""): Sentences(
        _("Your account at {server} was disconnected"),
        _("{person}'s account at {server} was disconnected"),
        _("The workspace was disconnected from {server}"),
    ),
    (_Kind.SERVER_CHANGED, ""): _alike(_("{server} was changed")),
    (_Kind.SERVER_CHANGED, "added"): _alike(_("{server} was added")),
    (_Kind.SERVER_CHANGED, "removed"): _alike(_("{server} was removed for good")),
    (_Kind.SERVER_CHANGED, "found"): _alike(_("{server} was found to be opened in another way")),
    (_Kind.SERVER_CHANGED, "removal_scheduled"): _alike(_("{server} was taken out of use, to be removed")),
    (_Kind.SERVER_CHANGED, "removal_undone"): _alike(_("{server} was kept")),
    (_Kind.TOOLS_CHANGED, ""): Sentences(
        _("The tools that {server} offers you changed"),
        _("The tools that {server} offers {person} changed"),
        _("The tools of {server} changed"),
    ),
    (_Kind.API_TOKEN_MADE, ""): Sentences(
        _("Your API token “{name}” was made"),
        _("{person}'s API token “{name}” was made"),
        _("The API token “{name}” was made"),
    ),
    (_Kind.API_TOKEN_REVOKED, ""): Sentences(
        _("Your API token “{name}” was revoked"),
        _("{person}'s API token “{name}” was revoked"),
        _("The API token “{name}” was revoked"),
    ),
    (_Kind.MEMBER_ADDED, "admin"): Sentences(
        _("You were added as an administrator"),
        _("{person} was added as an administrator"),
        _("Somebody was added as an administrator"),
    ),
    (_Kind.MEMBER_ADDED, ""): Sentences(
        _("You were added as a member"),
        _("{person} was added as a member"),
        _("Somebody was added as a member"),
    ),
    (_Kind.MEMBER_CHANGED, "admin"): Sentences(
        _("You became an administrator"),
        _("{person} became an administrator"),
        _("Somebody became an administrator"),
    ),
    (_Kind.MEMBER_CHANGED, ""): Sentences(
        _("You became a member without an administrator's rights"),
        _("{person} became a member without an administrator's rights"),
        _("Somebody became a member without an administrator's rights"),
    ),
    (_Kind.MEMBER_REMOVED, ""): Sentences(
        _("You left the workspace or were removed"),
        _("{person} left the workspace or was removed"),
        _("Somebody left the workspace or was removed"),
    ),
}
