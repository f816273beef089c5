"""Path tokens: what we issue is ours, exactly, and nothing else is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.service.tokens import PathTokens

TOKENS = PathTokens("f" * 32)
sids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
generations = st.integers(0, 1_000_000)


@given(sids, generations)
def test_issued_token_names_its_call_and_generation(call_sid: str, generation: int) -> None:
    token = TOKENS.issue(call_sid, generation)
    assert TOKENS.verify(token) == (call_sid, generation)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token)


def test_every_process_with_the_same_key_makes_and_takes_the_same_token() -> None:
    assert PathTokens("f" * 32).issue("CA7", 1) == TOKENS.issue("CA7", 1)


def test_token_of_another_key_is_refused() -> None:
    assert TOKENS.verify(PathTokens("e" * 32).issue("CA7", 1)) is None


@given(st.text(max_size=200))
def test_foreign_text_is_refused(text: str) -> None:
    assert TOKENS.verify(text) is None


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_a_token_has_one_spelling(place: int, letter: str) -> None:
    token = TOKENS.issue("CA00000000000000000000000000000007", 12)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    assert TOKENS.verify(changed) == (
        None if changed != token else ("CA00000000000000000000000000000007", 12)
    )
    for other in (token + "=", token + ".", token[:-1], token + "A", " " + token, token + "\n"):
        assert TOKENS.verify(other) is None


def test_tokens_differ_by_generation_and_do_not_show_the_key() -> None:
    assert TOKENS.issue("CA7", 1) != TOKENS.issue("CA7", 2)
    assert "f" * 32 not in f"{TOKENS.issue('CA7', 1)} {TOKENS!r}"


@pytest.mark.parametrize(("call_sid", "generation"), [("", 1), ("x" * 129, 1), ("CA7", -1), ("CA7", 10**7)])
def test_claims_out_of_bounds_are_our_own_error(call_sid: str, generation: int) -> None:
    with pytest.raises(ValueError, match=r"has|between"):
        TOKENS.issue(call_sid, generation)


def test_huge_token_is_refused() -> None:
    assert TOKENS.verify("A" * 10_000_000) is None
