"""The test models' own application, installed while their tests run."""

from __future__ import annotations

from django.apps import AppConfig


class FieldAppConfig(AppConfig):
    """Names the application; it has no migrations, its tables come and go with the tests."""

    name = "tests.fieldapp"
    label = "fieldapp"
    default_auto_field = "django.db.models.BigAutoField"
