"""The log: one line per event, no secret, nobody's words."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.journal.reports import EntriesUnreadable, JournalBack, JournalDown, WriteRejected
from callrt.service.log import KeyValueFormatter, SecretFilter, configure_logging, report_fields

SECRET = "s3cret-t0ken"


class Written(io.StringIO):
    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = Written()
    configure_logging([SECRET], stream=stream)
    yield stream
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


log = logging.getLogger("callrt.test")


def test_event_is_one_line_of_key_and_value(written: io.StringIO) -> None:
    log.info("call ended", extra={"call_sid": "CA7", "outcome": "completed", "seconds": 1.5})
    [line] = written.getvalue().splitlines()
    assert line.startswith("at=20")
    assert line.endswith(
        'level=info logger=callrt.test message="call ended" call_sid=CA7 outcome=completed seconds=1.5'
    )


def test_json_holds_the_same(written: io.StringIO) -> None:
    configure_logging([SECRET], as_json=True, stream=written)
    log.warning("call ended", extra={"call_sid": "CA7", "count": 2})
    line = json.loads(written.getvalue())
    assert (line["message"], line["call_sid"], line["count"], line["level"]) == (
        "call ended",
        "CA7",
        2,
        "warning",
    )


def test_unknown_keys_are_not_written(written: io.StringIO) -> None:
    log.info("said", extra={"text": "I am ill", "transcript": "private", "pii": "private"})
    assert "ill" not in written.getvalue()
    assert "private" not in written.getvalue()


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        "sk-abcdefgh12345678",
        "sk-proj-abc_def-123",
        "Basic QUM6c2VjcmV0",
        "Bearer abc.def",
        "0123456789abcdef0123456789abcdef",
        "+15550100001",
    ],
)
def test_secrets_and_numbers_are_taken_out_wherever_they_stand(secret: str, written: io.StringIO) -> None:
    log.info("got %s here", secret)
    log.info(f"got {secret}", extra={"reason": f"because {secret}"})
    assert secret not in written.getvalue()
    assert written.getvalue().count("[redacted]") == 3


def test_identities_of_calls_and_streams_stay_readable(written: io.StringIO) -> None:
    log.info("attached", extra={"call_sid": "CA" + "0123456789abcdef" * 2})
    assert "CA" + "0123456789abcdef" * 2 in written.getvalue()


def test_exception_is_its_type_and_place_and_not_its_message(written: io.StringIO) -> None:
    try:
        raise ExceptionGroup("private group", [ValueError("the caller said: private")])
    except ExceptionGroup:
        log.exception("call failed")
    [line] = written.getvalue().splitlines()
    assert "private" not in line
    assert "exception=ValueError" in line


@given(st.text(max_size=100), st.text(max_size=100))
def test_any_text_makes_one_line(message: str, value: str) -> None:
    record = logging.LogRecord("callrt", logging.INFO, "f", 1, message, None, None)
    record.__dict__["reason"] = value
    SecretFilter([SECRET]).filter(record)
    line = KeyValueFormatter().format(record)
    assert len(line.splitlines()) == 1


def test_libraries_do_not_log_addresses(written: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: POST https://api.twilio.com/…")
    assert written.getvalue() == ""


def test_journal_report_is_logged_with_its_reason(written: io.StringIO) -> None:
    for report in (
        JournalDown("locked"),
        JournalBack(1.5, 3),
        EntriesUnreadable("CA7", (1, 2), "checksum"),
        WriteRejected("", "touch", "TypeError"),
    ):
        log.warning("journal report", extra=report_fields(report))
    assert [line.split("message=", 1)[1] for line in written.getvalue().splitlines()] == [
        '"journal report" reason=locked event=JournalDown',
        '"journal report" event=JournalBack count=3 seconds=1.5',
        '"journal report" call_sid=CA7 reason=checksum event=EntriesUnreadable',
        '"journal report" reason=TypeError event=WriteRejected',
    ]
