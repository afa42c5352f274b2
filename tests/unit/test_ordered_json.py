"""What a server wrote in an order comes out of every database in that order."""

from __future__ import annotations

import json

import pytest
from django.core import serializers
from django.utils import timezone

from mcp_oauth.models import McpServer, StoredListing
from tests.people import member, new_workspace

pytestmark = pytest.mark.django_db


def test_the_members_of_a_schema_stay_in_their_order() -> None:
    workspace = new_workspace()
    properties = {"title": {"type": "string"}, "a": {}, "zebra": {}, "Übergröße": {"enum": [1.5, None, True]}}
    entries = [{"name": "look", "inputSchema": {"type": "object", "properties": properties}}]

    StoredListing.objects.create(
        server=McpServer.objects.create(
            workspace=workspace, name="Tools", slug="tools", url="https://tools.example/mcp"
        ),
        user=member(workspace),
        server_generation=1,
        entries=entries,
        fetched_at=timezone.now(),
    )

    [found] = StoredListing.objects.get().entries
    assert found == entries[0]
    assert [*found["inputSchema"]["properties"]] == [*properties]
    [dumped] = json.loads(serializers.serialize("json", StoredListing.objects.all()))
    assert dumped["fields"]["entries"] == entries
