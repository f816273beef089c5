"""The envelope in which a record lies in a store: ``<crc32 in hex> <JSON>``, readable with any tool.

The checksum covers the whole JSON, and that repeats whose entry it is and its number: a row that was torn,
rotted, or moved is found out. An entry that cannot be read is one ``CorruptRecord``; its neighbours are not
touched by it. A record whose tag is unknown (a newer callrt wrote it) is none of that: it is an
``UnknownRecord``, which the fold counts.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from callrt.journal.errors import CorruptRecord
from callrt.protocol.records import AnyRecord, Entry, Record, UnknownRecord

ENVELOPE_VERSION: Final = 1
RECORD_BYTES_MAX: Final = 256 * 1024
"""As the biggest message a carrier may send: nothing that a record quotes is larger."""


class _Envelope(msgspec.Struct, frozen=True):
    v: int
    call_sid: str
    number: int
    at: float
    record: msgspec.Raw


class _Tag(msgspec.Struct, frozen=True):
    kind: str


_encoder: Final = msgspec.json.Encoder()
_envelopes: Final = msgspec.json.Decoder(_Envelope)
_tags: Final = msgspec.json.Decoder(_Tag)
_records: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(AnyRecord)
_KINDS: Final = frozenset(str(kind.__struct_config__.tag) for kind in AnyRecord.__args__)


def encode_record(record: Record) -> bytes:
    """The record as JSON. Text that is no Unicode (half a surrogate pair, from a peer's JSON) is replaced."""
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:
        return _encoder.encode(_cleaned(msgspec.to_builtins(record)))


def seal(call_sid: str, number: int, at: float, record: bytes) -> bytes:
    """The bytes of an entry; ``record`` as from ``encode_record``."""
    assert number >= 1, "numbers start at 1"
    envelope = _Envelope(
        ENVELOPE_VERSION, call_sid, number, at if math.isfinite(at) else 0.0, msgspec.Raw(record)
    )
    body = _encoder.encode(envelope)
    return b"%08x %b" % (zlib.crc32(body), body)


def unseal(sealed: bytes, *, call_sid: str, number: int) -> Entry:
    """The entry in these bytes, which were found where entry ``number`` of ``call_sid`` belongs. Raises
    ``CorruptRecord``."""

    def corrupt(why: str) -> CorruptRecord:
        return CorruptRecord(call_sid, number, why)

    checksum, separator, body = sealed[:8], sealed[8:9], sealed[9:]
    if separator != b" " or checksum != b"%08x" % zlib.crc32(body):
        raise corrupt("checksum does not fit")
    try:
        envelope = _envelopes.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise corrupt("no envelope") from None
    if envelope.v != ENVELOPE_VERSION:
        raise corrupt(f"envelope version {envelope.v}")
    if (envelope.call_sid, envelope.number) != (call_sid, number):
        raise corrupt("belongs elsewhere")
    return Entry(call_sid, number, envelope.at, _record(envelope.record, corrupt))


def _record(raw: msgspec.Raw, corrupt: Callable[[str], CorruptRecord]) -> Record:
    try:
        record: Record = _records.decode(raw)
        return record
    except msgspec.MsgspecError:
        pass  # which of two things it is, the tag tells
    try:
        kind = _tags.decode(raw).kind
    except msgspec.MsgspecError:
        raise corrupt("no record") from None
    if kind in _KINDS:
        raise corrupt(f"a {kind} with other fields")
    return UnknownRecord(tag_seen=kind)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _cleaned(part) for key, part in value.items()}
    return value
