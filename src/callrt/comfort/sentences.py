"""What the carrier's own voice says when there is no stream to speak through, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callrt.comfort.lines import DEFAULT_LANGUAGE

SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "busy": "We cannot take your call right now. Please call again in a few minutes. Goodbye.",
        "nobody_there": "I am sorry, nobody can be reached right now. Please call again later. Goodbye.",
    },
    "es": {
        "busy": "Ahora no podemos atender su llamada. Llame de nuevo en unos minutos, por favor. Adiós.",
        "nobody_there": "Lo siento, ahora no podemos localizar a nadie. Llame más tarde, por favor. Adiós.",
    },
    "fr": {
        "busy": "Nous ne pouvons pas prendre votre appel. Rappelez dans quelques minutes. Au revoir.",
        "nobody_there": "Désolé, personne n'est joignable pour le moment. Rappelez plus tard. Au revoir.",
    },
    "de": {
        "busy": "Wir können Ihren Anruf gerade nicht annehmen. Bitte rufen Sie in einigen Minuten an. Auf Wiederhören.",
        "nobody_there": "Es tut mir leid, gerade ist niemand erreichbar. Bitte rufen Sie später an. Auf Wiederhören.",
    },
    "it": {
        "busy": "Al momento non possiamo rispondere. Richiami tra qualche minuto. Arrivederci.",
        "nobody_there": "Mi dispiace, al momento non risponde nessuno. Richiami più tardi. Arrivederci.",
    },
    "pt": {
        "busy": "Não podemos atender agora. Por favor ligue dentro de alguns minutos. Adeus.",
        "nobody_there": "Desculpe, ninguém pode atender agora. Por favor ligue mais tarde. Adeus.",
    },
    "nl": {
        "busy": "Wij kunnen u nu niet te woord staan. Bel over enkele minuten opnieuw. Tot ziens.",
        "nobody_there": "Het spijt me, er is nu niemand bereikbaar. Bel later opnieuw. Tot ziens.",
    },
    "pl": {
        "busy": "Nie możemy teraz odebrać. Proszę zadzwonić za kilka minut. Do widzenia.",
        "nobody_there": "Przepraszamy, nikt nie może teraz odebrać. Proszę zadzwonić później. Do widzenia.",
    },
    "sv": {
        "busy": "Vi kan inte ta emot ditt samtal just nu. Ring igen om några minuter. Hej då.",
        "nobody_there": "Tyvärr kan ingen svara just nu. Ring igen senare. Hej då.",
    },
}
"""Languages without a row hear English: a carrier's voice may not speak them."""


def sentence(language: str, name: str) -> tuple[str, str]:
    """The sentence and the language it is in."""
    row = SENTENCES.get(language)
    if row is None:
        return SENTENCES[DEFAULT_LANGUAGE][name], DEFAULT_LANGUAGE
    return row[name], language
