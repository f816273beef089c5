"""``bench/instructions.py``: what callgrind says of functions is added up by library, nothing twice."""

from __future__ import annotations

import pytest
from instructions import parse, report

LISTING = """\
--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
1,000 (100.0%)  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir             file:function
--------------------------------------------------------------------------------
400 (40.00%)  Python/ceval.c:_PyEval_EvalFrameDefault'2 [/usr/lib/libpython3.11.so.1.0]
100 (10.00%)  Python/ceval.c:_PyEval_EvalFrameDefault [/usr/lib/libpython3.11.so.1.0]
150 (15.00%)  /build/Python-3.11.7/Modules/binascii.c:binascii_b2a_base64
200 (20.00%)  ???:json_decode [/venv/lib/python3.11/site-packages/msgspec/_core.cpython-311-x86_64-linux-gnu.so]
 90 ( 9.00%)  ???:CPyDef_twilio___next_audio [/src/compiled_modules__mypyc.cpython-311-x86_64-linux-gnu.so]
 50 ( 5.00%)  ./malloc/malloc.c:_int_free [/usr/lib/x86_64-linux-gnu/libc.so.6]
 10 ( 1.00%)  ???:something [/usr/lib/x86_64-linux-gnu/libm.so.6]
"""


def test_functions_are_added_up_by_library_and_without_the_total() -> None:
    assert parse(LISTING) == {
        ("Python", "_PyEval_EvalFrameDefault"): 500,
        ("Python", "binascii_b2a_base64"): 150,
        ("msgspec", "json_decode"): 200,
        ("callrt, compiled", "CPyDef_twilio___next_audio"): 90,
        ("the C library", "_int_free"): 50,
        ("other", "something"): 10,
    }


def test_report_has_a_column_for_each_version_and_their_sums(capsys: pytest.CaptureFixture[str]) -> None:
    this, other = parse(LISTING), parse(LISTING)
    for counts in (this, other):
        for key in counts:
            counts[key] *= 1000
    other["Python", "binascii_b2a_base64"] *= 3
    report({"this one": this, "other": other}, 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["Python", "650", "950"]
    assert lines[-2:] == [
        ["together", "1,000", "1,300"],
        ["_PyEval_EvalFrameDefault", "500.0", "500.0", "Python"],
    ]
