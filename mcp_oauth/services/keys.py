"""Moves every stored secret to the newest encryption key while the application goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models, transaction

from mcp_oauth.exceptions import SecretUnreadable
from mcp_oauth.fields import EncryptedJSONField, EncryptedTextField, reseal, sealed_value


@dataclass(frozen=True)
class Rotation:
    """How many values were sealed again, were on the newest key already, or could not be opened by any key."""

    resealed: int = 0
    current: int = 0
    unreadable: int = 0

    def __add__(self, other: Rotation) -> Rotation:
        return Rotation(
            self.resealed + other.resealed, self.current + other.current, self.unreadable + other.unreadable
        )


def rotate_encryption_keys() -> Rotation:
    """Seal every secret with the newest key of the ring; what no key opens is left as it is and counted.

    Each row is changed in a transaction of its own and under its lock, so that a refresh that is under way is
    neither lost nor delayed by more than one row. Run it as often as you like.
    """
    return sum((_rotate_row(model, pk, names) for model, pk, names in _rows()), Rotation())


def rotate_rows(rows: models.QuerySet[Any]) -> Rotation:
    """Seal the secrets of some rows of one model as `rotate_encryption_keys` does those of all."""
    names = _sealed_fields(rows.model)
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    return sum((_rotate_row(rows.model, pk, names) for pk in keys), Rotation())


def _sealed_fields(model: type[models.Model]) -> list[str]:
    fields = model._meta.local_fields
    return [field.name for field in fields if isinstance(field, EncryptedTextField | EncryptedJSONField)]


def _rows() -> Iterator[tuple[type[models.Model], Any, list[str]]]:
    for model in apps.get_app_config("mcp_oauth").get_models():
        names = _sealed_fields(model)
        if names:
            for pk in model._default_manager.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=500):
                yield model, pk, names


def _rotate_row(model: type[models.Model], pk: Any, names: list[str]) -> Rotation:
    with transaction.atomic():
        row = model._default_manager.select_for_update().filter(pk=pk).first()
        if row is None:
            return Rotation()  # removed since it was listed
        changed: list[str] = []
        current = unreadable = 0
        for name in names:
            try:
                if reseal(row, name):
                    changed.append(name)
                elif sealed_value(row, name) is not None:
                    current += 1
            except SecretUnreadable:
                unreadable += 1
        if changed:
            row.save(update_fields=changed)
    return Rotation(len(changed), current, unreadable)
