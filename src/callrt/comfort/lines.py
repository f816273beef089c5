"""What the service says in its own voice, in each language, and the synthesiser's voice that says it.

The table is the source of the files under ``data/``: ``scripts/make_comfort.py`` makes them from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LINE_NAMES: Final = ("one_moment", "sorry_goodbye", "connecting", "goodbye")

DEFAULT_LANGUAGE: Final = "en"

LINES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "one_moment": "One moment please.",
        "sorry_goodbye": "I am sorry, please call again later. Goodbye.",
        "connecting": "I am connecting you now.",
        "goodbye": "Goodbye.",
    },
    "es": {
        "one_moment": "Un momento, por favor.",
        "sorry_goodbye": "Lo siento, llame más tarde, por favor. Adiós.",
        "connecting": "Le paso la llamada.",
        "goodbye": "Adiós.",
    },
    "fr": {
        "one_moment": "Un instant, s'il vous plaît.",
        "sorry_goodbye": "Désolé, veuillez rappeler plus tard. Au revoir.",
        "connecting": "Je vous mets en relation.",
        "goodbye": "Au revoir.",
    },
    "de": {
        "one_moment": "Einen Moment bitte.",
        "sorry_goodbye": "Es tut mir leid, bitte rufen Sie später an. Auf Wiederhören.",
        "connecting": "Ich verbinde Sie jetzt.",
        "goodbye": "Auf Wiederhören.",
    },
    "it": {
        "one_moment": "Un momento, per favore.",
        "sorry_goodbye": "Mi dispiace, richiami più tardi. Arrivederci.",
        "connecting": "La metto in contatto.",
        "goodbye": "Arrivederci.",
    },
    "pt": {
        "one_moment": "Um momento, por favor.",
        "sorry_goodbye": "Desculpe, por favor ligue mais tarde. Adeus.",
        "connecting": "Vou transferir a sua chamada.",
        "goodbye": "Adeus.",
    },
    "nl": {
        "one_moment": "Een ogenblik alstublieft.",
        "sorry_goodbye": "Het spijt me, belt u later nog eens. Tot ziens.",
        "connecting": "Ik verbind u nu door.",
        "goodbye": "Tot ziens.",
    },
    "pl": {
        "one_moment": "Proszę chwilę poczekać.",
        "sorry_goodbye": "Przepraszamy, proszę zadzwonić później. Do widzenia.",
        "connecting": "Już łączę.",
        "goodbye": "Do widzenia.",
    },
    "tr": {
        "one_moment": "Bir dakika lütfen.",
        "sorry_goodbye": "Üzgünüz, lütfen sonra arayın. Hoşça kalın.",
        "connecting": "Sizi şimdi bağlıyorum.",
        "goodbye": "Hoşça kalın.",
    },
    "sv": {
        "one_moment": "Ett ögonblick, tack.",
        "sorry_goodbye": "Tyvärr, ring gärna igen senare. Hej då.",
        "connecting": "Jag kopplar dig nu.",
        "goodbye": "Hej då.",
    },
    "cs": {
        "one_moment": "Okamžik, prosím.",
        "sorry_goodbye": "Omlouváme se, zavolejte prosím později. Na shledanou.",
        "connecting": "Přepojuji vás.",
        "goodbye": "Na shledanou.",
    },
    "hi": {
        "one_moment": "कृपया एक क्षण रुकिए।",
        "sorry_goodbye": "क्षमा कीजिए, कृपया बाद में फ़ोन कीजिए। नमस्ते।",
        "connecting": "मैं अब आपकी बात करवाता हूँ।",
        "goodbye": "नमस्ते।",
    },
}

VOICES: Final[Mapping[str, str]] = {"en": "en-us"}
"""Synthesiser voices where the name differs from the language."""


def voice_of(language: str) -> str:
    return VOICES.get(language, language)


def nearest_language(language: str) -> str:
    """The bundled language for a tag such as ``de-AT``; English where there is none."""
    primary = language.replace("_", "-").split("-")[0].lower()
    return primary if primary in LINES else DEFAULT_LANGUAGE
