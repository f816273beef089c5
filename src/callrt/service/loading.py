"""What is read from files before the first call: tools, comfort lines, certificates. Errors name the key."""

from __future__ import annotations

import ssl

import httpx

from callrt.agents.errors import ToolError
from callrt.agents.load import load_tools
from callrt.comfort.library import ComfortError, ComfortLibrary, find_recording
from callrt.comfort.lines import LINES, nearest_language
from callrt.errors import ConfigError
from callrt.policy.settings import Resilience, Settings


def check_tools(settings: Settings, agent: str) -> None:
    """Import one agent's tools: runs the operator's modules. Raises :class:`ConfigError`."""
    try:
        load_tools(settings.agents[agent].tools, settings.folder)
    except ToolError as error:
        raise ConfigError(f"[agents.{agent}] tools: {error}") from None


def check_comfort(settings: Settings, language: str) -> None:
    """Read the comfort lines of a language. Raises :class:`ConfigError`."""
    try:
        ComfortLibrary.load(settings.comfort_folder, language)
    except ComfortError as error:
        raise ConfigError(f"[comfort] folder: {error}") from None


def unheard_comfort(settings: Settings) -> str | None:
    """A warning: callers will not hear ``comfort_text``, since no recording says it. None: they will."""
    words = settings.resilience.comfort_text
    for language in languages(settings):
        bundled = LINES[nearest_language(language)]["one_moment"]
        recording = find_recording(settings.comfort_folder, language, "one_moment")
        # The default is English, and no wish of the operator's: every language has its own bundled line.
        if recording is None and words not in (bundled, Resilience().comfort_text):
            return (
                f'[resilience] comfort_text: callers hear the bundled "{bundled}" instead; '
                "record your words as one_moment.wav in the [comfort] folder, or remove the key"
            )
    return None


def languages(settings: Settings) -> list[str]:
    return list(dict.fromkeys(agent.language for agent in settings.agents.values()))


def certificates() -> ssl.SSLContext:
    """The machine's certificate authorities; those that come with httpx where the machine has none.

    To be made once: reading them blocks the event loop for longer than a frame of audio lasts.
    """
    context = ssl.create_default_context()
    return context if context.cert_store_stats()["x509_ca"] else httpx.create_ssl_context()
