"""``python -m tests.bench``: sets Django up, which the measurements need before they are imported."""

from __future__ import annotations

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.settings"
django.setup()

from tests.bench.run import main  # noqa: E402

if __name__ == "__main__":
    main()
