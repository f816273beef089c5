"""Arbitrary records for property tests: every kind, few names, so that they collide."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from callrt.protocol.records import AnyRecord, Entry, Record, UnknownRecord

KINDS: tuple[type[Record], ...] = AnyRecord.__args__

_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.sampled_from(["", "a", "b", "ok", "unknown", "transferred", "model_unavailable", "Grüße"]),
    int: st.integers(0, 3),
    bool: st.booleans(),
}


def records_of(kind: type[Record]) -> st.SearchStrategy[Record]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: _BY_TYPE[field.type] for field in fields})


RECORDS = st.one_of(*[records_of(kind) for kind in KINDS], records_of(UnknownRecord))


def numbered(records: list[Record]) -> list[Entry]:
    return [Entry("CA1", number, 1_000.0 + number, record) for number, record in enumerate(records, 1)]


ENTRIES = st.lists(RECORDS, max_size=30).map(numbered)
