#!/usr/bin/env python
"""Runs the project's administrative commands."""

from __future__ import annotations

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    if sys.argv[1:2] == ["demo"] or os.environ.get("DEMO") == "1":
        # The demonstration brings its own keys, database and port; they must stand before the settings are read.
        # With DEMO=1 any other command works on what the demonstration holds.
        from project.demo.environment import prepare

        prepare(sys.argv[2:])
    try:
        settings.INSTALLED_APPS  # noqa: B018  (read here, so that what is missing is said without a traceback)
    except ImproperlyConfigured as error:
        sys.exit(f"{error}")
    execute_from_command_line(sys.argv)
