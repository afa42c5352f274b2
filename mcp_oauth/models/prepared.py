"""Statements that are compiled once and run many times, for what is on the way of every call.

Django makes a statement anew each time, which takes ten times as long as finding a row by its key does. These are made
when a database is first asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connections, models, router, transaction
from django.db.models import Expression, F, QuerySet

M = TypeVar("M", bound=models.Model)
N = TypeVar("N", bound=models.Model)


class Given(Expression):
    """The place of a value in a queryset that is prepared: of the one that a run has under this name.

    The model's column says how a database takes the value; without a name, the place has the column's.
    """

    def __init__(self, model: type[models.Model], column: str, name: str = "") -> None:
        field: Any = model._meta.get_field(column)
        super().__init__(output_field=field)
        self._name = name or column

    def as_sql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        """Stand among the parameters until there is a value."""
        return "%s", (self,)

    def parameter(self, values: Mapping[str, Any], connection: Any) -> Any:
        """Return the value as the database takes it."""
        return self.output_field.get_db_prep_value(values[self._name], connection)


@dataclass(frozen=True)
class _Compiled:
    """A query as SQL, without anything of the connection it was compiled for: that one belongs to a thread."""

    sql: str
    parameters: Mapping[str, Any]
    # The columns of its result, as expressions.
    columns: tuple[Any, ...]

    @classmethod
    def of(cls, compiler: Any) -> _Compiled:
        """Compile a query."""
        # Named, because for parameters without names the backend of SQLite looks through a long text each time.
        sql, parameters = compiler.as_sql()
        named = {f"p{number}": value for number, value in enumerate(parameters)}
        text = sql.replace("%%", "%%%%") % tuple(f"%({name})s" for name in named)
        return cls(text, named, tuple(column[0] for column in compiler.select))

    @cached_property
    def attnames(self) -> list[str]:
        """Return the names of the columns, as attributes of an instance."""
        return [column.target.attname for column in self.columns]

    @cached_property
    def of_first(self) -> int:
        """Return how many columns are those of the first column's table."""
        return sum(column.alias == self.columns[0].alias for column in self.columns)

    def given(self, values: Mapping[str, Any], connection: Any) -> dict[str, Any]:
        """Return the parameters of a run."""
        return {
            name: part.parameter(values, connection) if isinstance(part, Given) else part
            for name, part in self.parameters.items()
        }


class _Prepared:
    """A query that is compiled when a database is first asked."""

    def __init__(self, model: type[models.Model], build: Callable[[], QuerySet[Any]]) -> None:
        self._model = model
        self._build = build
        self._compiled: dict[str, _Compiled] = {}
        self._here = threading.local()

    def _first(self, values: Mapping[str, Any]) -> tuple[str, _Compiled, list[Any]] | None:
        """Return the database that was asked, and the first row's values as the fields have them."""
        alias = router.db_for_read(self._model)
        connection = connections[alias]
        if alias not in self._compiled:
            self._compiled[alias] = _Compiled.of(self._build().using(alias).query.get_compiler(alias))
        compiled = self._compiled[alias]
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, compiled.given(values, connection))
            row = cursor.fetchone()
        if row is None:
            return None
        found = list(row)
        for position, convert in self._conversions(compiled, connection):
            found[position] = convert(found[position], compiled.columns[position], connection)
        return alias, compiled, found

    def _conversions(self, compiled: _Compiled, connection: Any) -> list[tuple[int, Callable[..., Any]]]:
        """Return what turns a column's value into the field's; slow to find out, so kept beside each connection."""
        kept: tuple[Any, list[tuple[int, Callable[..., Any]]]] | None = getattr(self._here, connection.alias, None)
        if kept is None or kept[0] is not connection:
            kept = (
                connection,
                [
                    (position, convert)
                    for position, column in enumerate(compiled.columns)
                    for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection))
                ],
            )
            setattr(self._here, connection.alias, kept)
        return kept[1]


class PreparedQuery(_Prepared, Generic[M]):
    """Finds a row. ``build`` returns the queryset, of instances alone: nothing related or annotated beside them."""

    def __init__(self, model: type[M], build: Callable[[], QuerySet[M]]) -> None:
        super().__init__(model, build)
        self._of = model

    def first(self, **values: Any) -> M | None:
        """Return the first row for these values, or ``None``."""
        found = self._first(values)
        if found is None:
            return None
        alias, compiled, row = found
        return self._of.from_db(alias, compiled.attnames, row)


class PreparedPair(_Prepared, Generic[M, N]):
    """Finds a row and the one that may stand beside it, in one statement.

    ``build`` returns the queryset of the first model, annotated with what `beside` names of the second.
    """

    def __init__(self, model: type[M], other: type[N], build: Callable[[], QuerySet[M]]) -> None:
        super().__init__(model, build)
        self._of = model
        self._other = other

    @staticmethod
    def beside(other: type[models.Model], relation: str, columns: Collection[str]) -> dict[str, F]:
        """Return the annotations for these columns of a model and its key, behind a filtered relation of that name."""
        names = [
            field.attname for field in other._meta.concrete_fields if field.primary_key or field.attname in columns
        ]
        return {f"{relation}_{name}": F(f"{relation}__{name}") for name in names}

    def first(self, **values: Any) -> tuple[M, N | None] | None:
        """Return the first row for these values with the other, or ``None``."""
        found = self._first(values)
        if found is None:
            return None
        alias, compiled, row = found
        names, own = compiled.attnames, compiled.of_first
        beside = self._other.from_db(alias, names[own:], row[own:])
        return self._of.from_db(alias, names[:own], row[:own]), None if beside.pk is None else beside


class PreparedUpdate(Generic[M]):
    """Changes rows: a run gives the values that columns must have now, and those they get, by the columns' names."""

    def __init__(self, model: type[M], *, where: Sequence[str], columns: Sequence[str]) -> None:
        self._model = model
        self._where: list[Any] = [model._meta.get_field(name) for name in where]
        self._columns: list[Any] = [model._meta.get_field(name) for name in columns]
        self._sql: dict[tuple[str, bool], str] = {}

    def run(self, where: Mapping[str, Any], *, may_be_lost: bool = False, **values: Any) -> int:
        """Change the rows and return how many there were.

        What ``may_be_lost`` need not have reached the disk when this returns: a crash of the database's machine within
        the next second may undo it.
        """
        alias = router.db_for_write(self._model)
        connection = connections[alias]
        # Of a transaction of the caller's, however it was begun, this is one part among others.
        late = may_be_lost and connection.vendor == "postgresql" and connection.get_autocommit()
        if (alias, late) not in self._sql:
            self._sql[alias, late] = self._compile(connection, late=late)
        given = [field.get_db_prep_save(values[field.name], connection) for field in self._columns]
        given += [field.get_db_prep_value(where[field.name], connection) for field in self._where]
        with transaction.mark_for_rollback_on_error(using=alias), connection.cursor() as cursor:
            cursor.execute(self._sql[alias, late], given)
            changed: int = cursor.rowcount
        return changed

    def _compile(self, connection: Any, *, late: bool) -> str:
        quoted = connection.ops.quote_name
        columns = ", ".join(f"{quoted(field.column)} = %s" for field in self._columns)
        rows = " AND ".join(f"{quoted(field.column)} = %s" for field in self._where)
        # Only for the transaction that this statement is; a statement of its own would be another way there and back.
        at_leisure = " FROM (SELECT set_config('synchronous_commit', 'off', true)) AS at_leisure" if late else ""
        return f"UPDATE {quoted(self._model._meta.db_table)} SET {columns}{at_leisure} WHERE {rows}"  # noqa: S608


class PreparedInsert(Generic[M]):
    """Inserts a row: a run gives the values of these columns by their names, the others get their defaults.

    As with ``bulk_create()`` no signals are sent; nor are columns filled that fill themselves on saving.
    """

    def __init__(self, model: type[M], *columns: str) -> None:
        self._model = model
        self._given: list[Any] = [model._meta.get_field(name) for name in columns]
        self._others: list[Any] = [field for field in model._meta.concrete_fields if field.name not in columns]
        self._compiled: dict[str, tuple[str, list[Any]]] = {}

    def run(self, **values: Any) -> None:
        """Insert the row.

        Raises:
            IntegrityError: there is such a row already, or nothing that it refers to.
        """
        alias = router.db_for_write(self._model)
        connection = connections[alias]
        if alias not in self._compiled:
            self._compiled[alias] = self._compile(connection)
        sql, defaults = self._compiled[alias]
        given = [field.get_db_prep_save(values[field.name], connection) for field in self._given]
        with transaction.mark_for_rollback_on_error(using=alias), connection.cursor() as cursor:
            cursor.execute(sql, given + defaults)

    def _compile(self, connection: Any) -> tuple[str, list[Any]]:
        quoted = connection.ops.quote_name
        fields = [*self._given, *self._others]
        columns, places = ", ".join(quoted(field.column) for field in fields), ", ".join(["%s"] * len(fields))
        sql = f"INSERT INTO {quoted(self._model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608
        return sql, [field.get_db_prep_save(field.get_default(), connection) for field in self._others]
