"""What an operator may set, as plain data. ``service/config.py`` reads it from TOML; tests build it by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from callrt.protocol.models.transcoding import AudioFormat


@attrs.frozen
class Resilience:
    """How faults are met. Milliseconds and seconds as the names say."""

    comfort_text: str = "One moment please."
    comfort_after_ms: int = 300
    model_retries: int = 1
    model_give_up_seconds: float = 20
    model_stall_seconds: float = 5
    carrier_return_seconds: float = 15
    tool_timeout_seconds: float = 10
    max_silence_seconds: float = 60
    max_call_seconds: float = 1800
    model_rotate_minutes: float = 50


@attrs.frozen
class ModelSettings:
    name: str
    provider: str
    url: str
    api_key: str = attrs.field(repr=False)
    model: str
    voice: str
    audio: AudioFormat = "pcmu"
    """What the model speaks: the telephone's mu-law, untouched, or 24 kHz PCM, transcoded."""


@attrs.frozen
class AgentSettings:
    name: str
    model: str
    instructions: str
    greeting: str | None = None
    tools: tuple[str, ...] = ()
    transfer_to: str | None = None
    transfer_sms: bool = False
    transfer_webhook: str = ""
    record: bool = False
    language: str = "en"
    """For the bundled lines: comfort, apology, connecting."""


@attrs.frozen
class TwilioSettings:
    account_sid: str
    auth_token: str = attrs.field(repr=False)
    api_url: str = "https://api.twilio.com"
    verify_signatures: bool = True


@attrs.frozen
class ServerSettings:
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    """What carriers reach. None: where we listen; see :meth:`reached_on`."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 8081
    drain_seconds: float = 30

    def reached_on(self, port: int) -> str:
        """``public_url``; without one, ``port`` as somebody on the same machine reaches it."""
        if self.public_url is not None:
            return self.public_url
        local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
        return f"http://{local.get(self.host, f'[{self.host}]' if ':' in self.host else self.host)}:{port}"


@attrs.frozen
class Settings:
    """One configuration file, checked."""

    folder: Path
    """Relative paths are relative to this folder."""
    server: ServerSettings
    journal_url: str
    twilio: TwilioSettings
    models: Mapping[str, ModelSettings]
    agents: Mapping[str, AgentSettings]
    routes: Mapping[str, str]
    """Called number, or ``default``, to agent name."""
    resilience: Resilience
    journal_keep_days: float = 400
    """How long ended calls stay in the journal."""
    comfort_folder: Path | None = None
    """An operator's own WAV files; each replaces a bundled line."""
