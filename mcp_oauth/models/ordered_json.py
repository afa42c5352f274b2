"""A JSON value whose members stay in the order in which they were written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:

    class _TextField(models.TextField[Any, Any]):
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any
        _pyi_lookup_exact_type: Any

else:
    _TextField = models.TextField


class OrderedJSONField(_TextField):
    """Keeps a JSON value as text: PostgreSQL's own type sorts members by their length, and a form follows their order.

    Nothing inside of it is searched for. What stands in a row and is no JSON is given as it is.
    """

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        """Return the value."""
        if value is None:
            return None
        try:
            return json.loads(value)
        except ValueError:
            return value

    def to_python(self, value: Any) -> Any:
        """Leave a value as it is."""
        return value

    def value_to_string(self, obj: models.Model) -> Any:
        """Return the value for a serializer that writes JSON itself, as Django's own JSON field does."""
        return self.value_from_object(obj)

    def get_prep_value(self, value: Any) -> Any:
        """Return the text."""
        return value if value is None or hasattr(value, "resolve_expression") else json.dumps(value, ensure_ascii=False)
