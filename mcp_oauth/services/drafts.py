"""Carries what a person entered from one page to the next, sealed, so that no page shows a secret again.

A draft is text for a hidden field. Only this application opens it, for the same person, workspace and purpose, and for
a while.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.crypto import key_ring
from mcp_oauth.exceptions import InvalidRequest, SecretUnreadable
from mcp_oauth.models import Workspace
from mcp_oauth.services.workspaces import Person


def seal_draft(purpose: str, user: Person, workspace: Workspace, value: Any) -> str:
    """Return a JSON value as sealed text."""
    plain = json.dumps({"at": time.time(), "value": value})
    # Packed, because a hidden field goes to the browser and back.
    packed = base64.b85encode(zlib.compress(plain.encode()))
    return key_ring().seal(packed, _associated_data(purpose, user, workspace))


def open_draft(purpose: str, user: Person, workspace: Workspace, sealed: str) -> Any:
    """Return the value that `seal_draft` sealed for the same purpose, person and workspace.

    Raises:
        InvalidRequest: it is none of these, or too old.
    """
    gone = InvalidRequest(
        _("What you entered was kept for a while only, and that is over."), next_step=_("Start again.")
    )
    try:
        packed = key_ring().open(sealed, _associated_data(purpose, user, workspace))
    except SecretUnreadable as error:
        raise gone from error
    plain = json.loads(zlib.decompress(base64.b85decode(packed)))
    if time.time() - plain["at"] > settings.DRAFT_SECONDS:
        raise gone
    return plain["value"]


def _associated_data(purpose: str, user: Person, workspace: Workspace) -> bytes:
    return json.dumps(["mcp_oauth.draft", purpose, str(workspace.pk), str(user.pk)]).encode()
