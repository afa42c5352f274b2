"""Encrypted fields: sealed wherever they rest, open only where they belong, refused where they cannot work."""

from __future__ import annotations

import copy
import inspect
import io
import json
import pickle
import uuid
from collections.abc import Iterator
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib import admin
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.migrations.writer import MigrationWriter
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.forms import modelform_factory
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from mcp_oauth.crypto import KeyRing, new_key
from mcp_oauth.exceptions import SecretUnreadable
from mcp_oauth.fields import (
    EncryptedJSONField,
    EncryptedTextField,
    SealedText,
    key_id_of,
    reseal,
    seal_for_update,
    sealed_value,
)
from tests.fieldapp.models import Numbered, SafeVault, Tenant, Vault

OLD, NEW = new_key(), new_key()
MODELS: tuple[type[models.Model], ...] = (Tenant, Vault, SafeVault, Numbered)
CANARY = "canary-7f3a"


@pytest.fixture(scope="module", autouse=True)
def _tables(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Install the test application with its tables, outside any test's transaction: SQLite insists."""
    installed = list(apps.get_app_configs())
    names = [config.name for config in installed]
    if "tests.fieldapp" in names:
        yield
        return
    with override_settings(INSTALLED_APPS=[*names, "tests.fieldapp"]), django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield
        with connection.schema_editor() as editor:
            for model in reversed(MODELS):
                editor.delete_model(model)


@pytest.fixture(autouse=True)
def _ring() -> Iterator[None]:
    with keys(OLD):
        yield


def keys(*ring: str) -> override_settings:
    return override_settings(MCP_OAUTH={"ENCRYPTION_KEYS": ring})


@pytest.fixture
def tenant(db: None) -> Tenant:
    return Tenant.objects.create()


@pytest.fixture
def vault(tenant: Tenant) -> Vault:
    Vault.objects.create(tenant=tenant, token=CANARY, headers={"X-Key": CANARY})
    return Vault.objects.get()


def encrypted(name: str) -> models.Field[Any, Any]:
    field = Vault._meta.get_field(name)
    assert isinstance(field, EncryptedTextField | EncryptedJSONField)
    return field


def again(vault: Vault) -> Vault:
    return Vault.objects.get(pk=vault.pk)


def column(vault: models.Model, name: str) -> str | None:
    """Return what the database holds, without the field's help."""
    table = vault._meta.get_field(name).model._meta
    key = vault._meta.pk.get_db_prep_value(vault.pk, connection)
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT "{name}" FROM "{table.db_table}" WHERE "{table.pk.column}" = %s', [key])  # noqa: S608
        value: str | None = cursor.fetchone()[0]
    return value


def overwrite(vault: Vault, name: str, value: str | None) -> None:
    """Write to the database past the field, as somebody with access to it could."""
    key = vault._meta.pk.get_db_prep_value(vault.pk, connection)
    with connection.cursor() as cursor:
        cursor.execute(f'UPDATE "fieldapp_vault" SET "{name}" = %s WHERE "id" = %s', [value, key])  # noqa: S608


# What is stored and what comes back


@pytest.mark.parametrize(
    "text", ["secret", "", "ünïcödé ☃ 𝄞", "3600", "null", "a\x00b", "\ud800", "x" * 100_000, "v1.a.b"]
)
def test_text_comes_back_as_it_went(tenant: Tenant, text: str) -> None:
    vault = Vault.objects.create(tenant=tenant, token=text)

    assert again(vault).token == text


@pytest.mark.parametrize("value", [{}, [], {"a": [1, 2.5, None, True, "ü"]}, "text", 3600, 0, False, "", [None]])
def test_json_comes_back_with_its_types(tenant: Tenant, value: Any) -> None:
    headers = again(Vault.objects.create(tenant=tenant, headers=value)).headers

    assert headers == value
    assert type(headers) is type(value)


@pytest.mark.requirement("mcp-security-token-storage", "ext-ema-token-storage", "T42")
def test_database_holds_sealed_text_only(vault: Vault) -> None:
    for name in ("token", "headers"):
        stored = column(vault, name)
        assert stored is not None
        assert stored.startswith("v1.")
        assert CANARY not in stored


def test_none_is_null(tenant: Tenant) -> None:
    vault = Vault.objects.create(tenant=tenant)

    assert column(vault, "token") is column(vault, "headers") is None
    assert again(vault).token is again(vault).headers is None
    assert sealed_value(again(vault), "token") is None


def test_value_can_be_cleared(vault: Vault) -> None:
    vault.token = None
    vault.save()

    assert column(vault, "token") is None


def test_empty_text_is_not_null(tenant: Tenant) -> None:
    assert column(Vault.objects.create(tenant=tenant, token=""), "token") is not None


def test_instance_reads_its_value_before_and_after_saving(tenant: Tenant) -> None:
    vault = Vault(tenant=tenant, token=CANARY)
    assert vault.token == CANARY
    vault.save()
    assert vault.token == CANARY
    assert sealed_value(vault, "token") == column(vault, "token")


def test_order_of_assignments_does_not_matter(tenant: Tenant) -> None:
    vault = Vault(token=CANARY, id=uuid.uuid4())
    vault.tenant = tenant
    vault.save()

    assert again(vault).token == CANARY


def test_keys_given_as_text_bind_like_keys_from_the_database(tenant: Tenant) -> None:
    text: Any = str(tenant.pk).upper()
    vault = Vault(id=uuid.uuid4().hex, tenant_id=text, token=CANARY)
    vault.save()

    assert vault.token == again(vault).token == CANARY


def test_saving_an_unchanged_row_writes_the_same_text(vault: Vault) -> None:
    before = column(vault, "token"), column(vault, "headers")
    assert vault.token
    assert vault.headers
    vault.note = "changed"
    vault.save()

    assert (column(vault, "token"), column(vault, "headers")) == before


def test_json_changed_in_place_is_saved(vault: Vault) -> None:
    vault.headers["X-More"] = "more"
    vault.save()
    assert again(vault).headers == {"X-Key": CANARY, "X-More": "more"}

    vault.headers.clear()
    vault.save(update_fields=["headers"])
    assert again(vault).headers == {}


def test_json_refuses_what_json_cannot_say(tenant: Tenant) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Vault.objects.create(tenant=tenant, headers=float("nan"))
    with pytest.raises(TypeError, match="not JSON serializable"):
        Vault.objects.create(tenant=tenant, headers={"a": object()})


@pytest.mark.parametrize("value", [3600, b"bytes", ["list"], F("other")])
def test_text_refuses_other_kinds_without_quoting_them(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^fieldapp\.Vault\.token (holds text|is sealed)") as caught:
        Vault(token=value)

    assert "3600" not in str(caught.value)


def test_save_with_update_fields_writes_those_only(vault: Vault) -> None:
    before = column(vault, "headers")
    vault.token, vault.headers = "second", {"second": 2}
    vault.save(update_fields=["token"])

    assert again(vault).token == "second"
    assert column(vault, "headers") == before
    assert vault.headers == {"second": 2}


def test_callable_default_is_sealed(tenant: Tenant) -> None:
    safe = SafeVault.objects.create(tenant=tenant, token=CANARY)

    assert str(column(safe, "combination")).startswith("v1.")
    assert SafeVault.objects.get().combination == {}


def test_inherited_field_reads_from_child_and_parent(tenant: Tenant) -> None:
    safe = SafeVault.objects.create(tenant=tenant, token=CANARY, combination=[1, 2])

    loaded = SafeVault.objects.get()
    assert (loaded.token, loaded.combination) == (CANARY, [1, 2])
    assert Vault.objects.get(pk=safe.pk).token == CANARY


def test_row_without_a_key_before_saving_is_refused(db: None) -> None:
    refused = pytest.raises(ImproperlyConfigured, match=r"^fieldapp\.Numbered\.token is bound to its row, so the row")
    with refused, transaction.atomic():
        Numbered.objects.create(token=CANARY)

    assert Numbered.objects.create(token=None).token is None


# Keys


def test_dropped_key_makes_the_value_unreadable_and_nothing_else(vault: Vault) -> None:
    with keys(NEW):
        loaded = again(vault)
        with pytest.raises(SecretUnreadable, match=r"no longer configured \(fieldapp\.Vault\.token\)\.$") as caught:
            _ = loaded.token
        assert CANARY not in str(caught.value)
        assert isinstance(caught.value.__cause__, SecretUnreadable)
        loaded.note = "still writable"
        loaded.save()
        loaded.refresh_from_db()
        assert len(Vault.objects.all()) == 1
        assert str(loaded) == "still writable"

    assert again(vault).token == CANARY


def test_value_under_a_dropped_key_can_be_set_again(vault: Vault) -> None:
    with keys(NEW):
        loaded = again(vault)
        loaded.token = "second"
        loaded.save()
        assert again(vault).token == "second"


def test_one_unreadable_row_leaves_the_others_readable(tenant: Tenant) -> None:
    rows = [Vault.objects.create(tenant=tenant, token=str(number)) for number in range(20)]
    overwrite(rows[7], "token", "not sealed at all")

    read = []
    for vault in Vault.objects.all():
        try:
            read.append(vault.token)
        except SecretUnreadable:
            read.append(None)

    assert read.count(None) == 1
    assert len(set(read)) == 20


def test_plain_text_in_the_column_is_never_handed_out(vault: Vault) -> None:
    overwrite(vault, "token", "planted")
    overwrite(vault, "headers", '{"planted": true}')

    for name in ("token", "headers"):
        with pytest.raises(SecretUnreadable, match="not in the form"):
            getattr(again(vault), name)


@pytest.mark.requirement("T42")
def test_rotated_ring_reads_old_values_and_seals_new_ones_with_the_newest_key(vault: Vault) -> None:
    with keys(NEW, OLD):
        loaded = again(vault)
        assert loaded.token == CANARY
        assert key_id_of(str(sealed_value(loaded, "token"))) == KeyRing([OLD]).current_id
        loaded.other = "new"
        loaded.save()
        assert key_id_of(str(column(vault, "other"))) == KeyRing([NEW]).current_id


def test_resealed_values_survive_the_loss_of_the_old_key(vault: Vault) -> None:
    with keys(NEW, OLD):
        loaded = again(vault)
        assert reseal(loaded, "token")
        assert reseal(loaded, "headers")
        assert not reseal(loaded, "token")
        assert not reseal(loaded, "other")
        loaded.save(update_fields=["token", "headers"])
    with keys(NEW):
        loaded = again(vault)
        assert (loaded.token, loaded.headers) == (CANARY, {"X-Key": CANARY})


def test_reseal_leaves_a_value_that_is_not_saved_yet_alone(vault: Vault) -> None:
    vault.token = "second"
    with keys(NEW, OLD):
        assert not reseal(vault, "token")
    assert vault.token == "second"


def test_reseal_of_an_unreadable_value_says_so(vault: Vault) -> None:
    with keys(NEW), pytest.raises(SecretUnreadable):
        reseal(again(vault), "token")


def test_names_of_other_fields_are_refused(vault: Vault) -> None:
    with pytest.raises(TypeError, match=r"^fieldapp\.Vault\.note is not an encrypted field\.$"):
        sealed_value(vault, "note")


# Binding


@pytest.mark.requirement("T42")
def test_value_of_another_row_does_not_open(tenant: Tenant) -> None:
    mine, theirs = (Vault.objects.create(tenant=tenant, token=text) for text in ("mine", "theirs"))
    overwrite(mine, "token", column(theirs, "token"))

    with pytest.raises(SecretUnreadable, match="another place"):
        _ = again(mine).token
    assert again(theirs).token == "theirs"


@pytest.mark.requirement("T42")
def test_value_of_another_column_does_not_open(vault: Vault) -> None:
    for name in ("other", "headers"):
        overwrite(vault, name, column(vault, "token"))
        with pytest.raises(SecretUnreadable, match="another place"):
            getattr(again(vault), name)


@pytest.mark.requirement("T42")
def test_row_given_to_another_owner_opens_nothing(vault: Vault) -> None:
    other = Tenant.objects.create()
    Vault.objects.filter(pk=vault.pk).update(tenant=other)

    with pytest.raises(SecretUnreadable, match="another place"):
        _ = again(vault).token


def test_changing_the_owner_of_a_loaded_row_closes_it_at_once(vault: Vault) -> None:
    mine = vault.tenant
    assert vault.token == CANARY
    vault.tenant = Tenant.objects.create()
    with pytest.raises(SecretUnreadable, match="another place"):
        _ = vault.token

    vault.tenant = mine
    assert vault.token == CANARY


def test_copied_row_has_to_be_given_its_secret_again(vault: Vault) -> None:
    assert vault.token == CANARY
    vault.pk = None
    with pytest.raises(SecretUnreadable, match="another place"):
        _ = vault.token

    vault.pk = uuid.uuid4()
    vault._state.adding = True
    vault.save()
    with pytest.raises(SecretUnreadable, match="another place"):
        _ = vault.token

    vault.token = "its own"
    vault.headers = {"its": "own"}
    vault.save()
    assert (again(vault).token, again(vault).headers) == ("its own", {"its": "own"})


def test_value_changed_in_place_does_not_follow_its_row_to_another_owner(vault: Vault) -> None:
    vault.headers["X-More"] = "more"
    vault.tenant = Tenant.objects.create()
    vault.save()

    with pytest.raises(SecretUnreadable, match="another place"):
        _ = again(vault).headers


def test_value_read_from_one_row_can_be_given_to_its_copy(vault: Vault) -> None:
    token, headers = vault.token, vault.headers
    vault.token, vault.headers = token, headers
    vault.pk, vault._state.adding = uuid.uuid4(), True
    vault.save()

    assert (again(vault).token, again(vault).headers) == (CANARY, {"X-Key": CANARY})


def test_sealed_text_assigned_as_plain_text_is_plain_text(vault: Vault) -> None:
    raw = str(column(vault, "token"))
    theirs = Vault.objects.create(tenant=vault.tenant, token=raw)

    assert again(theirs).token == raw
    assert column(theirs, "token") != raw


def test_sealed_text_from_a_query_opens_nowhere_else(vault: Vault) -> None:
    theirs = Vault.objects.create(tenant=vault.tenant, token=Vault.objects.values_list("token", flat=True).get())

    with pytest.raises(SecretUnreadable, match="another place"):
        _ = again(theirs).token


def test_binding_is_unambiguous() -> None:
    class Joined(models.Model):
        id = models.CharField(primary_key=True, max_length=9)
        a = models.CharField(max_length=9, null=True)  # noqa: DJ001
        b = models.CharField(max_length=9, null=True)  # noqa: DJ001
        token = EncryptedTextField(label="x", owner=("a", "b"), null=True)

        class Meta:
            app_label = "unregistered"

        def __str__(self) -> str:
            return self.id

    try:
        field = Joined._meta.get_field("token")
        rows = [("1", "2|3", "4"), ("1", "2", "3|4"), ("1|2", "3", "4"), ("1", None, "2"), ("1", "None", "2")]
        rows += [("1", "", "2"), ("1", '","', ""), ("1", "", '","')]
        bound = {field.associated_data(Joined(id=key, a=a, b=b)) for key, a, b in rows}
    finally:
        del apps.all_models["unregistered"]
        apps.clear_cache()

    assert len(bound) == len(rows)


# Queries


def test_values_and_values_list_give_sealed_text(vault: Vault) -> None:
    expected = column(vault, "token")

    (row,) = Vault.objects.values("token", "headers")
    assert row["token"] == expected
    assert isinstance(row["token"], SealedText)
    assert Vault.objects.values_list("token", flat=True).get() == expected
    assert Vault.objects.annotate(alias=F("token")).values_list("alias", flat=True).get() == expected
    assert json.loads(json.dumps(row)) == pickle.loads(pickle.dumps(row)) == row  # noqa: S301
    assert CANARY not in repr(row)


def test_raw_query_gives_working_instances(vault: Vault) -> None:
    (loaded,) = Vault.objects.raw("SELECT * FROM fieldapp_vault")

    assert loaded.token == CANARY


def test_isnull_is_the_lookup_there_is(vault: Vault) -> None:
    Vault.objects.create(tenant=vault.tenant)

    assert Vault.objects.filter(token__isnull=False).get() == vault
    assert Vault.objects.exclude(token__isnull=True).get() == vault
    assert Tenant.objects.filter(vault__headers__isnull=False).count() == 1


@pytest.mark.parametrize(
    "lookup",
    [
        {"token": CANARY},
        {"token": None},
        {"token__exact": CANARY},
        {"token__iexact": CANARY},
        {"token__in": [CANARY]},
        {"token__contains": "c"},
        {"token__startswith": "v1."},
        {"token__regex": "v1"},
        {"token__gt": ""},
        {"token__upper": "X"},
        {"headers": {}},
        {"headers__contains": {}},
        {"headers__key": "x"},
    ],
)
def test_every_other_lookup_is_refused(vault: Vault, lookup: dict[str, Any]) -> None:
    for refused in (Vault.objects.filter, Vault.objects.exclude, Vault.objects.get):
        with pytest.raises(FieldError, match="is encrypted: it can be looked up with __isnull only"):
            refused(**lookup)
    with pytest.raises(FieldError):
        Tenant.objects.filter(**{f"vault__{name}": value for name, value in lookup.items()})
    with pytest.raises(FieldError):
        Vault.objects.get_or_create(tenant=vault.tenant, **lookup)


@pytest.mark.parametrize(
    "value", ["plain", "v1.a.b", SealedText("v1.a.b"), Value("plain"), F("other"), Upper("note"), 1]
)
def test_update_of_a_value_is_refused(vault: Vault, value: Any) -> None:
    before = column(vault, "token")
    with (
        pytest.raises(FieldError, match=r"^fieldapp\.Vault\.token is sealed for its row: assign"),
        transaction.atomic(),
    ):
        Vault.objects.update(token=value)

    assert column(vault, "token") == before


def test_update_of_what_was_sealed_for_the_row_is_what_the_row_opens(vault: Vault) -> None:
    token = seal_for_update(vault, "token", "changed on a condition")
    headers = seal_for_update(vault, "headers", {"X-Api-Key": "changed"})

    assert Vault.objects.filter(pk=vault.pk, note="nobody's").update(token=token) == 0
    assert Vault.objects.filter(pk=vault.pk).update(token=token, headers=headers) == 1

    assert (again(vault).token, again(vault).headers) == ("changed on a condition", {"X-Api-Key": "changed"})
    assert vault.token == CANARY
    assert "changed" not in f"{column(vault, 'token')}{column(vault, 'headers')}"


def test_what_was_sealed_for_one_row_opens_in_no_other(vault: Vault, tenant: Tenant) -> None:
    other = Vault.objects.create(tenant=tenant, token="other")
    Vault.objects.filter(pk=other.pk).update(token=seal_for_update(vault, "token", "not for you"))

    with pytest.raises(SecretUnreadable):
        _ = again(other).token


def test_nothing_but_a_value_of_the_fields_kind_is_sealed_for_an_update(vault: Vault) -> None:
    assert seal_for_update(vault, "token", None) is None
    for value in (1, Value("plain"), F("note")):
        with pytest.raises(TypeError):
            seal_for_update(vault, "token", value)


def test_update_to_none_clears(vault: Vault) -> None:
    assert Vault.objects.filter(pk=vault.pk).update(token=None, headers=None) == 1

    assert column(vault, "token") is column(vault, "headers") is None


@pytest.mark.parametrize("value", ["plain", None])
def test_bulk_update_is_refused(vault: Vault, value: str | None) -> None:
    before = column(vault, "token")
    vault.token = value
    with pytest.raises(FieldError), transaction.atomic():
        Vault.objects.bulk_update([vault], ["token"])
    with pytest.raises(FieldError), transaction.atomic():
        Vault.objects.bulk_update([vault], ["headers"])

    assert column(vault, "token") == before


def test_bulk_update_of_other_columns_works(vault: Vault) -> None:
    vault.note = "changed"
    Vault.objects.bulk_update([vault], ["note"])

    assert (again(vault).note, again(vault).token) == ("changed", CANARY)


def test_bulk_create_seals_for_each_row(tenant: Tenant) -> None:
    rows = [Vault(tenant=tenant, token=f"token {n}", headers={"n": n}) for n in range(30)]
    Vault.objects.bulk_create([*rows, Vault(tenant=tenant)])

    assert {vault.token for vault in Vault.objects.all()} == {*(f"token {n}" for n in range(30)), None}
    assert rows[3].token == again(rows[3]).token
    assert str(column(rows[3], "token")).startswith("v1.")
    pickle.dumps(rows)


def test_update_or_create_and_get_or_create_seal(tenant: Tenant) -> None:
    vault, created = Vault.objects.update_or_create(tenant=tenant, defaults={"token": "first"})
    assert created
    again_, created = Vault.objects.update_or_create(tenant=tenant, defaults={"token": "second"})
    assert not created
    assert Vault.objects.get_or_create(tenant=tenant, defaults={"token": "third"})[0].token == "second"

    assert again_.token == again(vault).token == "second"


def test_deferred_value_is_loaded_when_read(vault: Vault) -> None:
    for loaded in (Vault.objects.defer("token").get(), Vault.objects.only("note").get()):
        assert "token" in loaded.get_deferred_fields()
        assert loaded.token == CANARY
        assert "token" not in loaded.get_deferred_fields()


def test_reading_a_loaded_value_asks_the_database_nothing(vault: Vault) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert vault.token == vault.token == CANARY

    assert len(queries) == 0


def test_saving_with_deferred_fields_keeps_them(vault: Vault) -> None:
    before = column(vault, "token")
    loaded = Vault.objects.defer("token").get()
    loaded.note = "changed"
    loaded.save()

    assert column(vault, "token") == before


def test_deferred_unreadable_value_can_be_looked_at_and_saved(vault: Vault) -> None:
    with keys(NEW):
        loaded = Vault.objects.only("note").get()
        assert sealed_value(loaded, "token") == column(vault, "token")
        loaded.save()
        with pytest.raises(SecretUnreadable):
            _ = loaded.token

    assert again(vault).token == CANARY


def test_deferred_value_can_be_set_without_loading(vault: Vault) -> None:
    loaded = Vault.objects.defer("token").get()
    loaded.token = "second"
    loaded.save()

    assert again(vault).token == "second"


def test_deferred_sealed_values_are_loaded_one_by_one_or_with_their_peers(tenant: Tenant) -> None:
    for number in range(3):
        Vault.objects.create(tenant=tenant, token=str(number))
    deferred: Any = Vault.objects.defer("token")
    # Fetch modes came with Django 6.1; before it, each row asks for itself.
    together = django.VERSION >= (6, 1)
    rows = list(deferred.fetch_mode(models.FETCH_PEERS) if together else deferred)  # type: ignore[attr-defined,unused-ignore]

    with CaptureQueriesContext(connection) as queries:
        assert {vault.token for vault in rows} == {"0", "1", "2"}
    assert len(queries) == (1 if together else 3)
    pickle.dumps(rows)


# Refreshing


def test_refresh_drops_what_was_not_saved(vault: Vault) -> None:
    vault.token = "unsaved"
    vault.headers["unsaved"] = True
    vault.refresh_from_db()

    assert (vault.token, vault.headers) == (CANARY, {"X-Key": CANARY})


def test_refresh_sees_what_others_saved(vault: Vault) -> None:
    assert vault.token == CANARY
    other = again(vault)
    other.token = "second"
    other.save()
    vault.refresh_from_db(fields=["token"])

    assert vault.token == "second"


def test_refreshed_value_is_not_a_change(vault: Vault) -> None:
    before = column(vault, "token")
    vault.refresh_from_db()
    pickle.dumps(vault)
    vault.save()

    assert column(vault, "token") == before


def test_refresh_of_an_unreadable_row_works(vault: Vault) -> None:
    with keys(NEW):
        vault.refresh_from_db()
        with pytest.raises(SecretUnreadable):
            _ = vault.token


def test_refresh_from_a_locked_queryset_works(vault: Vault) -> None:
    vault.token = "unsaved"
    vault.refresh_from_db(from_queryset=Vault.objects.select_for_update())

    assert vault.token == CANARY


@pytest.mark.django_db(transaction=True)
def test_refresh_works_from_a_coroutine() -> None:
    vault = Vault.objects.create(tenant=Tenant.objects.create(), token=CANARY)
    vault.token = "unsaved"

    async_to_sync(vault.arefresh_from_db)()

    assert vault.token == CANARY


def test_refresh_passes_through_classes_beside_the_one_with_the_field(tenant: Tenant) -> None:
    safe = SafeVault.objects.create(tenant=tenant, token=CANARY)
    safe.refresh_from_db()

    assert safe.refreshes == 1
    assert (safe.token, safe.combination) == (CANARY, {})


def test_refresh_keeps_its_signature() -> None:
    assert inspect.signature(Vault.refresh_from_db) == inspect.signature(models.Model.refresh_from_db)


# What leaves the process


def test_pickled_row_carries_sealed_values_only(vault: Vault) -> None:
    assert vault.token == vault.headers["X-Key"] == CANARY
    data = pickle.dumps(vault)
    assert CANARY.encode() not in data

    loaded = pickle.loads(data)  # noqa: S301
    assert (loaded.token, loaded.headers) == (CANARY, {"X-Key": CANARY})
    with keys(NEW), pytest.raises(SecretUnreadable):
        _ = pickle.loads(data).token  # noqa: S301


def test_saved_row_can_be_pickled_at_once(tenant: Tenant) -> None:
    data = pickle.dumps(Vault.objects.create(tenant=tenant, token=CANARY, headers=[CANARY]))

    assert CANARY.encode() not in data
    assert pickle.loads(data).headers == [CANARY]  # noqa: S301


def test_row_with_an_unsaved_secret_is_not_pickled(vault: Vault) -> None:
    vault.headers["X-More"] = "more"
    for pending in (Vault(token=CANARY), Vault(headers={"a": CANARY}), vault):
        with pytest.raises(TypeError, match=r"^An instance with an unsaved secret cannot be pickled; save it first\.$"):
            pickle.dumps(pending)


@pytest.mark.requirement("T41")
def test_nothing_prints_a_secret(vault: Vault) -> None:
    assert vault.token == vault.headers["X-Key"] == CANARY
    pending = Vault(token=CANARY, headers={"a": CANARY})

    for shown in (vault, pending, vault.__dict__, pending.__dict__, Vault.objects.all(), Vault.__dict__["token"]):
        assert CANARY not in repr(shown)
        assert CANARY not in str(shown)
    for held in (*vault.__dict__.values(), *pending.__dict__.values()):
        assert CANARY not in f"{held}"
    assert repr(vault.__dict__["token"]) == f"<sealed with {KeyRing([OLD]).current_id}>"
    assert repr(pending.__dict__["token"]) == "<secret, not saved yet>"


def test_statements_carry_sealed_values_only(tenant: Tenant) -> None:
    with CaptureQueriesContext(connection) as queries:
        vault = Vault.objects.create(tenant=tenant, token=CANARY, headers={"a": CANARY})
        vault.token = CANARY + "2"
        vault.save()

    assert CANARY not in str(queries.captured_queries)


@pytest.mark.parametrize("form", ["json", "python", "xml", "jsonl"])
def test_serializers_leave_encrypted_fields_out(vault: Vault, form: str) -> None:
    text = str(serializers.serialize(form, [vault]))

    assert CANARY not in text
    assert "v1." not in text
    assert "token" not in text


def test_dumpdata_leaves_encrypted_fields_out(vault: Vault) -> None:
    out = io.StringIO()
    call_command("dumpdata", "fieldapp", stdout=out)

    (dumped,) = (row for row in json.loads(out.getvalue()) if row["model"] == "fieldapp.vault")
    assert set(dumped["fields"]) == {"tenant", "note"}


def test_serializer_that_asks_all_the_same_gets_sealed_text(vault: Vault) -> None:
    field = encrypted("token")

    assert field.value_to_string(vault) == column(vault, "token")
    assert field.value_to_string(Vault(token=CANARY)) == ""


def test_fixture_with_a_plain_value_is_refused(tenant: Tenant) -> None:
    fields = {"tenant": str(tenant.pk), "token": CANARY}
    (row,) = serializers.deserialize("python", [{"model": "fieldapp.vault", "pk": str(uuid.uuid4()), "fields": fields}])

    with pytest.raises(FieldError, match="is sealed for its row"), transaction.atomic():
        row.save()
    assert not Vault.objects.exists()


def test_copies_of_an_instance_are_independent(vault: Vault) -> None:
    assert vault.headers
    shallow, deep = copy.copy(vault), copy.deepcopy(vault)
    deep.headers["X-More"] = "more"
    shallow.token = "second"

    assert (vault.token, vault.headers) == (CANARY, {"X-Key": CANARY})
    assert (shallow.token, deep.token) == ("second", CANARY)
    deep.save()
    assert again(vault).headers == {"X-Key": CANARY, "X-More": "more"}

    pending = copy.deepcopy(Vault(tenant=vault.tenant, headers={"a": 1}))
    pending.save()
    assert again(pending).headers == {"a": 1}


# Forms and the admin


def test_forms_have_no_encrypted_fields() -> None:
    assert list(modelform_factory(Vault, fields="__all__").base_fields) == ["tenant", "note"]
    with pytest.raises(FieldError, match="non-editable"):
        modelform_factory(Vault, fields=["token"])
    assert encrypted("token").formfield(widget=None) is None


def test_saving_a_form_keeps_the_secret(vault: Vault) -> None:
    form_class = modelform_factory(Vault, fields="__all__")
    with keys(NEW):
        form = form_class({"tenant": str(vault.tenant.pk), "note": "changed"}, instance=again(vault))
        assert form.is_valid()
        form.save()

    assert (again(vault).note, again(vault).token) == ("changed", CANARY)


def test_admin_shows_no_encrypted_field(vault: Vault) -> None:
    page = admin.ModelAdmin(Vault, admin.AdminSite())
    request = RequestFactory().get("/")

    assert page.get_fields(request, vault) == ["tenant", "note"]
    assert CANARY not in str(page.get_form(request, vault)(instance=vault))


def test_full_clean_keeps_values(vault: Vault) -> None:
    vault.note = "cleaned"
    vault.full_clean(exclude=["other"])
    vault.save()

    assert (again(vault).token, again(vault).headers) == (CANARY, {"X-Key": CANARY})


# Migrations and declarations


def test_field_survives_a_migration_file() -> None:
    for name in ("token", "headers"):
        field = encrypted(name)
        code, imports = MigrationWriter.serialize(field)
        scope: dict[str, Any] = {}
        exec("\n".join(imports), scope)  # noqa: S102  (what Django itself has just written)
        rebuilt = eval(code, scope)  # noqa: S307

        assert rebuilt.deconstruct()[1:] == field.deconstruct()[1:] == field.clone().deconstruct()[1:]
        assert (rebuilt.label, rebuilt.owner) == (f"fieldapp.Vault.{name}", ("tenant_id",))
        assert (rebuilt.editable, rebuilt.serialize) == (False, False)


def test_migration_names_label_and_owner_and_nothing_that_is_always_so() -> None:
    _, path, args, options = encrypted("token").deconstruct()

    assert path == "mcp_oauth.fields.EncryptedTextField"
    assert list(args) == []
    assert options == {"label": "fieldapp.Vault.token", "owner": ("tenant_id",), "null": True}
    assert "owner" not in EncryptedJSONField(label="x").deconstruct()[3]


def test_columns_are_text() -> None:
    assert {encrypted(name).db_type(connection) for name in ("token", "headers")} == {"text"}


def test_new_owner_alters_no_column(db: None) -> None:
    old, new = encrypted("token"), EncryptedTextField(label="fieldapp.Vault.token", null=True)
    new.set_attributes_from_name("token")
    new.model = Vault

    editor = connection.schema_editor(collect_sql=True)
    editor.alter_field(Vault, old, new)

    assert editor.collected_sql == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": ""}, r"^An encrypted field needs a label\.$"),
        ({"label": "x", "owner": "tenant_id"}, r"^The owner of an encrypted field is a sequence of attribute names\.$"),
        ({"label": "x", "default": "secret"}, r"^The default of an encrypted field is a callable"),
    ],
)
def test_declarations_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        EncryptedTextField(**options)


@pytest.mark.parametrize(
    "option", ["primary_key", "unique", "db_index", "editable", "serialize", "db_default", "choices"]
)
def test_options_that_make_no_sense_do_not_exist(option: str) -> None:
    options: dict[str, Any] = {option: True}
    with pytest.raises(TypeError, match=option):
        EncryptedTextField(label="x", **options)


def test_system_checks_have_nothing_to_say() -> None:
    for name in ("token", "other", "headers"):
        assert encrypted(name).check() == []


def test_attribute_of_the_class_is_the_descriptor() -> None:
    assert Vault.__dict__["token"].field is encrypted("token")
    assert Vault.token is Vault.__dict__["token"]
