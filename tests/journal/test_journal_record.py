"""Laws of the envelope: what was sealed is unsealed, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.journal import CorruptRecord
from callrt.journal.record import encode_record, seal, unseal
from callrt.protocol.records import AgentSaid, AnyRecord, CallerSaid, Record, UnknownRecord

BY_TYPE = {str: st.text(st.characters(codec="utf-8")), int: st.integers(0, 2**53), bool: st.booleans()}
RECORDS: st.SearchStrategy[Record] = st.one_of(
    *[
        st.builds(kind, **{field.name: BY_TYPE[field.type] for field in msgspec.structs.fields(kind)})
        for kind in AnyRecord.__args__
    ]
)
SEALED = seal("CA1", 7, 1.5, encode_record(CallerSaid(item_id="i", text="hello")))


@given(RECORDS, st.integers(1, 2**40), st.floats(0, 1e11))
def test_record_is_unsealed_as_it_was_sealed(record: Record, number: int, at: float) -> None:
    entry = unseal(seal("CA1", number, at, encode_record(record)), call_sid="CA1", number=number)
    assert (entry.call_sid, entry.number, entry.at, entry.record) == ("CA1", number, at, record)


@given(st.data())
def test_record_with_a_changed_byte_is_corrupt(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(SEALED) - 1))
    change = data.draw(st.integers(1, 255))
    torn = SEALED[:place] + bytes([SEALED[place] ^ change]) + SEALED[place + 1 :]
    with pytest.raises(CorruptRecord) as caught:
        unseal(torn, call_sid="CA1", number=7)
    assert (caught.value.call_sid, caught.value.number) == ("CA1", 7)


@given(st.integers(0, len(SEALED) - 1))
def test_record_with_a_torn_tail_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptRecord):
        unseal(SEALED[:length], call_sid="CA1", number=7)


@given(st.binary())
def test_record_from_noise_is_corrupt(noise: bytes) -> None:
    with pytest.raises(CorruptRecord):
        unseal(noise, call_sid="CA1", number=7)


@pytest.mark.parametrize(("call_sid", "number"), [("CA2", 7), ("CA1", 8)])
def test_record_in_the_wrong_place_is_corrupt(call_sid: str, number: int) -> None:
    with pytest.raises(CorruptRecord, match="belongs elsewhere"):
        unseal(SEALED, call_sid=call_sid, number=number)


def test_record_of_an_unknown_kind_is_no_corruption() -> None:
    entry = unseal(seal("CA1", 1, 0.0, b'{"kind":"moon_phase","moon":3}'), call_sid="CA1", number=1)
    assert entry.record == UnknownRecord(tag_seen="moon_phase")


def test_record_with_fields_of_the_future_is_read() -> None:
    record = b'{"kind":"caller_said","item_id":"i","text":"t","mood":"good"}'
    entry = unseal(seal("CA1", 1, 0.0, record), call_sid="CA1", number=1)
    assert entry.record == CallerSaid(item_id="i", text="t")


@pytest.mark.parametrize("record", [b'{"kind":"caller_said"}', b'{"kind":7}', b"[]", b"null"])
def test_record_with_wrong_fields_is_corrupt(record: bytes) -> None:
    with pytest.raises(CorruptRecord):
        unseal(seal("CA1", 1, 0.0, record), call_sid="CA1", number=1)


def test_envelope_of_a_newer_version_is_not_guessed_at() -> None:
    import zlib

    body = b'{"v":2,"call_sid":"CA1","number":1,"at":0.0,"record":{"kind":"call_ended","outcome":"silence"}}'
    with pytest.raises(CorruptRecord, match="envelope version 2"):
        unseal(b"%08x %b" % (zlib.crc32(body), body), call_sid="CA1", number=1)


def test_record_with_half_a_surrogate_pair_is_written_without_it() -> None:
    record = AgentSaid(item_id="i", text="so \ud83d far", heard_ms=20)
    entry = unseal(seal("CA1", 1, 0.0, encode_record(record)), call_sid="CA1", number=1)
    assert entry.record == AgentSaid(item_id="i", text="so ? far", heard_ms=20)


@pytest.mark.parametrize("at", [float("nan"), float("inf")])
def test_record_made_under_a_broken_clock_is_kept(at: float) -> None:
    assert unseal(
        seal("CA1", 1, at, encode_record(CallerSaid(item_id="i", text="t"))), call_sid="CA1", number=1
    )
