"""Model fields whose values are sealed at rest and bound to their column, row and owner."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from mcp_oauth.crypto import key_id_of, key_ring
from mcp_oauth.exceptions import SecretUnreadable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.functional import _StrPromise

__all__ = [
    "EncryptedJSONField",
    "EncryptedTextField",
    "SealedText",
    "key_id_of",
    "reseal",
    "seal_for_update",
    "sealed_value",
]

_Value = TypeVar("_Value")

# Made once: `json.dumps` makes an encoder for each value.
_compact = json.JSONEncoder(separators=(",", ":")).encode


class SealedText(str):
    """Sealed text as the database holds it; what ``values()`` and ``values_list()`` return."""

    __slots__ = ()


class _SealedForRow(str):
    """Sealed text on its way into the row it was sealed for; the only text ``get_db_prep_save`` lets through."""

    __slots__ = ()


class _Pending:
    """A plain value in an instance's ``__dict__`` that ``save()`` has yet to seal."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> _Pending:
        return _Pending(copy.deepcopy(self.value, memo))

    def __reduce__(self) -> NoReturn:
        raise TypeError("An instance with an unsaved secret cannot be pickled; save it first.")

    def __repr__(self) -> str:
        return "<secret, not saved yet>"


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """What a sealed value opened to, for which row, and the bytes it was then."""

    associated_data: bytes
    plaintext: bytes
    value: Any


class _Stored:
    """A sealed value in an instance's ``__dict__``, with what it opened to remembered beside it."""

    __slots__ = ("_field", "_opened", "sealed")

    def __init__(self, sealed: str, field: _EncryptedField[Any] | None = None, opened: _Opened | None = None) -> None:
        self.sealed: Final = str(sealed)
        self._field = field
        self._opened = opened

    def open(self, field: _EncryptedField[Any], instance: models.Model) -> Any:
        """Return the plain value; a changed key or owner of the row makes the remembered one worthless."""
        associated_data = field.associated_data(instance)
        opened = self._opened
        if opened is None or opened.associated_data != associated_data:
            plaintext = field.open(self.sealed, associated_data)
            opened = _Opened(associated_data, plaintext, field.load(plaintext))
            self._field, self._opened = field, opened
        return opened.value

    def changed_value(self, associated_data: Callable[[], bytes]) -> _Pending | None:
        """Return the handed-out list or dict if it was modified in place and the row is still the same."""
        if not self._is_modified() or self._opened is None or self._opened.associated_data != associated_data():
            return None
        return _Pending(self._opened.value)

    def _is_modified(self) -> bool:
        opened, field = self._opened, self._field
        return opened is not None and field is not None and field.dump(opened.value) != opened.plaintext

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stored:
        opened = self._opened
        if opened is not None:
            opened = _Opened(opened.associated_data, opened.plaintext, copy.deepcopy(opened.value, memo))
        return _Stored(self.sealed, self._field, opened)

    def __reduce__(self) -> tuple[type[_Stored], tuple[str]]:
        if self._is_modified():
            raise TypeError("An instance with an unsaved secret cannot be pickled; save it first.")
        # What was opened stays in this process: a pickle ends up in caches and queues.
        return _Stored, (self.sealed,)

    def __repr__(self) -> str:
        return f"<sealed with {key_id_of(self.sealed) or 'an unknown key'}>"


# The instance whose refresh_from_db() runs in this context. Django copies attributes from a second instance
# with getattr; that one hands over its sealed value, so that an unreadable secret does not break the refresh
# and a readable one does not turn into a change.
_refreshing: ContextVar[models.Model | None] = ContextVar("mcp_oauth_refreshing", default=None)


def _hands_over(source: models.Model) -> bool:
    target = _refreshing.get()
    return (
        target is not None
        and source is not target
        and not source._state.adding
        and source._meta.concrete_model is target._meta.concrete_model
        and source.pk == target.pk
    )


class _SecretAttribute(DeferredAttribute):
    """Opens on reading and takes new values on writing.

    A data descriptor, because ``DeferredAttribute`` alone lets the instance's ``__dict__`` win and would
    hand out ciphertext.
    """

    field: _EncryptedField[Any]

    def held(self, instance: models.Model) -> _Stored | _Pending | None:
        """Return what the instance holds, loaded first when it was deferred, without opening it."""
        return cast("_Stored | _Pending | None", super().__get__(instance, type(instance)))

    def __get__(self, instance: models.Model | None, cls: type[models.Model] | None = None) -> Any:
        if instance is None:
            return self
        held = self.held(instance)
        if isinstance(held, _Pending):
            return held.value
        if isinstance(held, _Stored):
            return held if _hands_over(instance) else held.open(self.field, instance)
        return None

    def __set__(self, instance: models.Model, value: Any) -> None:
        if isinstance(value, SealedText):
            # From the database: a row being loaded, or a deferred value arriving. It opens nowhere else.
            value = _Stored(value)
        elif value is not None and not isinstance(value, _Stored):
            self.field.check_value(value)
            value = _Pending(value)
        instance.__dict__[self.field.attname] = value


if TYPE_CHECKING:

    class _ModelField(models.Field[_Value, _Value]):
        pass

else:

    class _ModelField(models.Field):
        def __class_getitem__(cls, item):
            return cls


class _EncryptedField(_ModelField[_Value]):
    """What both fields share: the binding, the sealing and the refusals.

    ``label`` names the column for good. It is part of what a value is bound to, so it lives in migrations and
    stays as it is when the model, table or column is renamed. ``owner`` names columns of the model
    (``"workspace_id"``) whose values are bound too: a row given to another owner opens nothing.
    The row's key must exist before the first save, as a UUID key does.

    Reading raises ``SecretUnreadable`` when no key of the ring opens the value. Queries see sealed text only:
    lookups other than ``isnull``, ``update()`` of anything but ``None`` or what `seal_for_update` returned, and
    ``bulk_update()`` raise ``FieldError``. ``bulk_create(update_conflicts=True)`` may meet a row with another key,
    which then cannot read the value it is given.
    """

    descriptor_class = _SecretAttribute
    # An absent secret is NULL and never the empty text.
    empty_strings_allowed = False
    non_db_attrs = (*models.Field.non_db_attrs, "label", "owner")

    def __init__(
        self,
        verbose_name: str | _StrPromise | None = None,
        name: str | None = None,
        *,
        label: str,
        owner: Sequence[str] = (),
        null: bool = False,
        blank: bool = False,
        default: Any = models.NOT_PROVIDED,
        help_text: str = "",
        db_column: str | None = None,
        db_comment: str | None = None,
    ) -> None:
        if not label:
            raise ImproperlyConfigured("An encrypted field needs a label.")
        if isinstance(owner, str):
            raise ImproperlyConfigured("The owner of an encrypted field is a sequence of attribute names.")
        if default is not models.NOT_PROVIDED and default is not None and not callable(default):
            raise ImproperlyConfigured("The default of an encrypted field is a callable, so migrations hold no value.")
        self.label: Final = label
        self.owner: Final = tuple(owner)
        super().__init__(
            verbose_name,
            name,
            null=null,
            blank=blank,
            default=default,
            help_text=help_text,
            db_column=db_column,
            db_comment=db_comment,
            editable=False,
            serialize=False,
        )

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """Return the field as a migration writes it, label and owner included."""
        name, path, args, options = super().deconstruct()
        options.pop("editable", None)
        options.pop("serialize", None)
        options["label"] = self.label
        if self.owner:
            options["owner"] = self.owner
        return name, path, args, options

    def get_internal_type(self) -> str:
        """Store sealed values in a text column."""
        return "TextField"

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        """Attach the descriptor, and let ``refresh_from_db`` move sealed values without opening them."""
        super().contribute_to_class(cls, name, private_only)
        if getattr(cls.__dict__.get("refresh_from_db"), "moves_sealed_values", False):
            return
        own = cls.__dict__.get("refresh_from_db")

        @wraps(cls.refresh_from_db)
        def refresh_from_db(self: models.Model, *args: Any, **options: Any) -> None:
            token = _refreshing.set(self)
            try:
                if own is None:
                    # Looked up at each call: a subclass may put other classes between this one and Model.
                    super(cls, self).refresh_from_db(*args, **options)  # type: ignore[misc]
                else:
                    own(self, *args, **options)
            finally:
                _refreshing.reset(token)

        refresh_from_db.moves_sealed_values = True  # type: ignore[attr-defined]
        cls.refresh_from_db = refresh_from_db  # type: ignore[method-assign]

    def check_value(self, value: Any) -> None:
        """Raise ``TypeError`` for a value of a kind the field cannot hold; the message never quotes it."""
        if hasattr(value, "resolve_expression"):
            raise TypeError(f"{self.label} is sealed in Python and cannot be a database expression.")

    def dump(self, value: Any) -> bytes:
        """Return the bytes to seal."""
        raise NotImplementedError

    def load(self, plaintext: bytes) -> Any:
        """Return the value that ``dump`` turned into bytes."""
        raise NotImplementedError

    def associated_data(self, instance: models.Model) -> bytes:
        """Return what a value of this row is bound to: label, primary key and owner, as a JSON array."""
        # This field's own model and not the instance's: a child row has its key after its parent's.
        key = [_text_of(instance, field) for field in self.model._meta.pk_fields]
        owner = [
            _text_of(instance, cast("models.Field[Any, Any]", self.model._meta.get_field(name))) for name in self.owner
        ]
        return _compact([self.label, key, owner]).encode("ascii")

    def open(self, sealed: str, associated_data: bytes) -> bytes:
        """Return the plaintext of a sealed value.

        Raises:
            SecretUnreadable: No key opens it for this column, row and owner.
        """
        try:
            return key_ring().open(sealed, associated_data)
        except SecretUnreadable as error:
            raise SecretUnreadable(f"{error.user_message.rstrip('.')} ({self.label}).") from error

    def seal(self, instance: models.Model, value: Any) -> _Stored:
        """Return a value sealed for the row under the newest key.

        Raises:
            ImproperlyConfigured: The row has no key yet.
        """
        if any(getattr(instance, part.attname) is None for part in self.model._meta.pk_fields):
            raise ImproperlyConfigured(
                f"{self.label} is bound to its row, so the row needs its primary key before it is saved."
            )
        associated_data, plaintext = self.associated_data(instance), self.dump(value)
        sealed = key_ring().seal(plaintext, associated_data)
        return _Stored(sealed, self, _Opened(associated_data, plaintext, value))

    def held(self, instance: models.Model) -> _Stored | _Pending | None:
        """Return what an instance holds for this field, without opening it."""
        return self.descriptor_class(self).held(instance)

    def pre_save(self, model_instance: models.Model, add: bool) -> _SealedForRow | None:
        """Seal what is new or changed; what was loaded is written back as it is, readable or not."""
        held = self.held(model_instance)
        if isinstance(held, _Stored):
            held = held.changed_value(lambda: self.associated_data(model_instance)) or held
        if isinstance(held, _Pending):
            held = model_instance.__dict__[self.attname] = self.seal(model_instance, held.value)
        return None if held is None else _SealedForRow(held.sealed)

    def from_db_value(self, value: str | None, expression: Any, connection: BaseDatabaseWrapper) -> SealedText | None:
        """Mark what a query returns as sealed; only the descriptor sees the row it belongs to."""
        return None if value is None else SealedText(value)

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> str | None:
        """Let sealed values of a row being saved through, and refuse everything else.

        Raises:
            FieldError: The value comes from ``update()``, ``bulk_update()``, a fixture or an expression.
        """
        if value is None:
            return None
        if isinstance(value, _SealedForRow):
            return str(value)
        raise FieldError(
            f"{self.label} is sealed for its row: assign the value to an instance and save() that. "
            "update() can only set it to None, or to what seal_for_update() made for the one row it changes."
        )

    def get_prep_value(self, value: Any) -> Any:
        """Refuse to be compared with or written from a query; see ``get_db_prep_save``."""
        if value is None:
            return None
        raise FieldError(f"{self.label} is encrypted: a query cannot use its value.")

    def get_lookup(self, lookup_name: str) -> Any:
        """Offer ``isnull`` and refuse every other lookup with ``FieldError``."""
        if lookup_name != "isnull":
            raise FieldError(f"{self.label} is encrypted: it can be looked up with __isnull only, not __{lookup_name}.")
        return super().get_lookup(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        """Refuse every transform with ``FieldError``."""
        raise FieldError(f"{self.label} is encrypted: it can be looked up with __isnull only, not __{lookup_name}.")

    def formfield(self, *args: Any, **options: Any) -> Any:
        """Offer no form field: a form that sets a secret declares its own write-only one."""
        return None

    def value_to_string(self, obj: models.Model) -> str:
        """Return sealed text to a serializer that asks in spite of ``serialize=False``."""
        return sealed_value(obj, self.attname) or ""


class EncryptedTextField(_EncryptedField[str | None]):
    """Text that is sealed at rest; ``instance.attribute`` is ``str`` or ``None``."""

    description = "Encrypted text"

    if TYPE_CHECKING:
        _pyi_private_set_type: str | None
        _pyi_private_get_type: str | None

    def check_value(self, value: Any) -> None:
        """Accept text only."""
        super().check_value(value)
        if not isinstance(value, str):
            raise TypeError(f"{self.label} holds text, not {type(value).__name__}.")

    def dump(self, value: Any) -> bytes:
        """Encode as UTF-8; lone surrogates survive, so no text is refused with itself in the error."""
        return cast("str", value).encode("utf-8", "surrogatepass")

    def load(self, plaintext: bytes) -> str:
        """Decode UTF-8."""
        return plaintext.decode("utf-8", "surrogatepass")


class EncryptedJSONField(_EncryptedField[Any]):
    """A JSON value that is sealed at rest; ``None`` is NULL, and a change in place is kept by ``save()``."""

    description = "Encrypted JSON"

    def dump(self, value: Any) -> bytes:
        """Encode as JSON (RFC 8259), so neither NaN nor infinity."""
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")

    def load(self, plaintext: bytes) -> Any:
        """Decode JSON."""
        return json.loads(plaintext)


def sealed_value(instance: models.Model, name: str) -> str | None:
    """Return the sealed text an instance holds, without opening it.

    ``None`` stands for NULL and for a value that is not saved yet.
    """
    held = _field(instance, name).held(instance)
    return held.sealed if isinstance(held, _Stored) else None


def seal_for_update(instance: models.Model, name: str, value: Any) -> str | None:
    """Return a value sealed for one row, for an ``update()`` that changes this row on a condition.

    ``None`` stays ``None``. The instance needs its key and owner; it does not change. In another row nothing opens the
    value.
    """
    if value is None:
        return None
    field = _field(instance, name)
    field.check_value(value)
    return _SealedForRow(field.seal(instance, value).sealed)


def reseal(instance: models.Model, name: str) -> bool:
    """Seal a stored value again under the newest key, and tell whether that changed anything.

    The caller saves the instance, under a lock when others may write the row. NULL, a value that is not saved
    yet and one under the newest key are left alone.

    Raises:
        SecretUnreadable: No key of the ring opens the stored value.
    """
    field = _field(instance, name)
    held = field.held(instance)
    if not isinstance(held, _Stored) or key_id_of(held.sealed) == key_ring().current_id:
        return False
    instance.__dict__[field.attname] = field.seal(instance, held.open(field, instance))
    return True


def _field(instance: models.Model, name: str) -> _EncryptedField[Any]:
    field = instance._meta.get_field(name)
    if not isinstance(field, _EncryptedField):
        raise TypeError(f"{instance._meta.label}.{name} is not an encrypted field.")
    return field


def _text_of(instance: models.Model, field: models.Field[Any, Any]) -> str | None:
    """Return a column's value as text that is the same before and after a trip through the database."""
    value = getattr(instance, field.attname)
    return None if value is None else str(field.to_python(value))
