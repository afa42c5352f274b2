"""Imports what the processes of `tests.scale.processes` need, once, before they are forked off."""

from __future__ import annotations

import importlib

import django

django.setup()
# Django first: they need its models.
for module in ("mcp_oauth.sessions.client", "tests.people", "tests.servers.conversing"):
    importlib.import_module(module)
