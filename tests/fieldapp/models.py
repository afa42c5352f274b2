"""Rows with every kind of secret: owned, with a default, inherited, and one that cannot be bound.

Each model names its manager: the type checker's plugin only gives one to models of an installed application.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models

from mcp_oauth.fields import EncryptedJSONField, EncryptedTextField


class Tenant(models.Model):
    """An owner that secrets are bound to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    objects: ClassVar[models.Manager[Tenant]] = models.Manager()

    class Meta:
        app_label = "fieldapp"

    def __str__(self) -> str:
        return str(self.id)


class Vault(models.Model):
    """Two texts and a JSON value of one tenant."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    note = models.CharField(max_length=50, blank=True)
    token = EncryptedTextField(label="fieldapp.Vault.token", owner=("tenant_id",), null=True)
    other = EncryptedTextField(label="fieldapp.Vault.other", owner=("tenant_id",), null=True)
    headers = EncryptedJSONField(label="fieldapp.Vault.headers", owner=("tenant_id",), null=True)

    objects: ClassVar[models.Manager[Vault]] = models.Manager()

    class Meta:
        app_label = "fieldapp"

    def __str__(self) -> str:
        return self.note


class Counting(models.Model):
    """Stands between an inherited class and Model, and counts what passes."""

    class Meta:
        abstract = True
        app_label = "fieldapp"

    refreshes = 0

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, from_queryset: Any = None
    ) -> None:
        """Count and pass on."""
        self.refreshes += 1
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)


class SafeVault(Vault, Counting):
    """Inherits its secrets from another table."""

    combination = EncryptedJSONField(label="fieldapp.SafeVault.combination", default=dict)

    objects: ClassVar[models.Manager[SafeVault]] = models.Manager()

    class Meta:
        app_label = "fieldapp"


class Numbered(models.Model):
    """Gets its key from the database, too late to bind anything to."""

    token = EncryptedTextField(label="fieldapp.Numbered.token", null=True)

    objects: ClassVar[models.Manager[Numbered]] = models.Manager()

    class Meta:
        app_label = "fieldapp"

    def __str__(self) -> str:
        return str(self.pk)
