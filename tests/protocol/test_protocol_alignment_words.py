"""Words of a text: the quick way, for scripts with spaces, finds what the general way finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.alignment import _by_characters, words_of

_TEXT = st.text(
    st.sampled_from("ab Z9.,!? \"')]\t\n\x1c-:;_%") | st.characters(max_codepoint=127), max_size=60
)


def _as_values(words):
    return [(word.before, word.units, word.end, word.ends_clause) for word in words]


@given(_TEXT)
def test_words_are_the_same_by_spaces_and_by_characters(text):
    assert _as_values(words_of(text)) == _as_values(_by_characters(text))


def test_a_closing_quotation_mark_does_not_hide_the_end_of_a_clause():
    assert [word.ends_clause for word in words_of('He said "no." Then ) 12, (yes)')] == [
        word.ends_clause for word in _by_characters('He said "no." Then ) 12, (yes)')
    ]
    assert [word.ends_clause for word in words_of('She said "no." Then')] == [False, False, True, False]
