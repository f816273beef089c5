"""``callrt.toml`` to :class:`~callrt.policy.settings.Settings`: every key, its default, its range."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from callrt.errors import ConfigError
from callrt.journal import database_path
from callrt.policy.settings import (
    AgentSettings,
    ModelSettings,
    Resilience,
    ServerSettings,
    Settings,
    TwilioSettings,
)
from callrt.protocol.models.transcoding import AUDIO_FORMATS, AudioFormat
from callrt.service.config_reader import NO_HOST, Findings, Table, is_host

__all__ = ["ConfigError", "load_journal_settings", "load_settings", "read_settings", "same_port"]

PROVIDERS = ("openai-realtime",)

_TABLES = ("server", "journal", "carriers", "models", "agents", "routes", "resilience", "comfort")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_PHONE = r"\+[1-9][0-9]{6,14}"
_KEY = r"\s*[!-~]+\s*"
"""What a header can carry."""
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_TOOL = r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*"
_EVERYWHERE = ("0.0.0.0", "::")
_ROUTE = r"default|\+?[0-9]{3,15}|[^\s:]+:[^\s]+"
"""``default``, a number, or an address with a scheme (``sip:…``, ``client:…``)."""


def load_settings(path: Path, env: Mapping[str, str]) -> Settings:
    """The whole file, checked. Reads nothing but the file and ``env``; opens and imports nothing.

    Raises :class:`ConfigError`: one sentence with the file, the first key that is wrong and what to write instead.
    """
    settings, findings = read_settings(path, env)
    findings.raise_first(str(path))
    return settings


def read_settings(path: Path, env: Mapping[str, str]) -> tuple[Settings, Findings]:
    """The whole file with all that is wrong with it. What is wrong is left at its default, or empty.

    Raises :class:`ConfigError` for a file that cannot be read at all.
    """
    findings = Findings()
    root = _root(path, env, findings)
    server = _server(root.table("server"))
    journal = root.table("journal")
    journal_url = _journal_url(journal)
    twilio = _twilio(root.table("carriers").only(("twilio",)).table("twilio"))
    models = _models(root.table("models"))
    agents = _agents(root, models)
    settings = Settings(
        folder=_folder(path),
        server=server,
        journal_url=journal_url,
        journal_keep_days=journal.number("keep_days", 400, 1, 36_500),
        twilio=twilio,
        models=models,
        agents=agents,
        routes=_routes(root.table("routes"), agents),
        resilience=_resilience(root.table("resilience")),
        comfort_folder=_comfort_folder(root.table("comfort"), _folder(path)),
    )
    return settings, findings


def load_journal_settings(path: Path, env: Mapping[str, str]) -> tuple[Path, str]:
    """``(folder, journal url)`` alone: who only reads the journal needs no credentials in the environment."""
    findings = Findings()
    url = _journal_url(_root(path, env, findings).table("journal"))
    findings.raise_first(str(path))
    return _folder(path), url


def _folder(path: Path) -> Path:
    return path.resolve().parent


def _root(path: Path, env: Mapping[str, str], findings: Findings) -> Table:
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; write one, or name another with --config FILE"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name another with --config FILE"
        ) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The parser's message names the place and the grammar, not the value.
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(
            f"{path}: cannot be read: a number has too many digits, or brackets are nested too deeply; write less"
        ) from None
    return Table("", values, env, findings).only(_TABLES)


def _server(table: Table) -> ServerSettings:
    table.only(_keys(ServerSettings))
    default = ServerSettings()
    public_url = None
    if "public_url" in table:
        public_url = _address(table, "public_url", "", ("http", "https")).rstrip("/")
    server = ServerSettings(
        host=_host(table, "host", default.host),
        port=table.integer("port", default.port, 0, 65535),
        public_url=public_url,
        admin_host=_host(table, "admin_host", default.admin_host),
        admin_port=table.integer("admin_port", default.admin_port, 0, 65535),
        drain_seconds=table.number("drain_seconds", default.drain_seconds, 0, 86400),
    )
    if same_port(server):
        table.refuse(
            "admin_port", "is the public port; write another number, so that carriers cannot reach it"
        )
    return server


def same_port(server: ServerSettings) -> bool:
    """Whether carriers would reach what only operators may see."""
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (server.host, server.admin_host)}
    return server.port == server.admin_port != 0 and (len(hosts) == 1 or not hosts.isdisjoint(_EVERYWHERE))


def _host(table: Table, key: str, default: str) -> str:
    host = table.text(key, default)
    if not is_host(host):
        table.refuse(key, NO_HOST)
        return default
    return host


def _journal_url(table: Table) -> str:
    table.only(("url", "keep_days"))
    default = "sqlite:///callrt.db"
    url = table.text("url", default)
    try:
        database_path(url, Path())
    except ValueError:
        table.refuse("url", f'must name a file; write url = "{default}"')
        return default
    return url


def _twilio(table: Table) -> TwilioSettings:
    table.only(_keys(TwilioSettings))
    return TwilioSettings(
        account_sid=table.text("account_sid", "${TWILIO_ACCOUNT_SID}"),
        auth_token=table.text("auth_token", "${TWILIO_AUTH_TOKEN}"),
        api_url=_address(table, "api_url", "https://api.twilio.com", ("http", "https")).rstrip("/"),
        verify_signatures=table.boolean("verify_signatures", True),
    )


def _models(table: Table) -> dict[str, ModelSettings]:
    # Without any [models.*] there is still the one with all defaults.
    names = table.names() or ["main"]
    return {name: _model(table.table(_named(table, name, "model")), name) for name in names}


def _model(table: Table, name: str) -> ModelSettings:
    table.only(_keys(ModelSettings))
    provider = table.text("provider", "openai-realtime")
    return ModelSettings(
        name=name,
        provider=table.one_of("provider", provider, PROVIDERS, "provider"),
        url=_address(table, "url", "wss://api.openai.com/v1/realtime", ("ws", "wss"), query=True),
        api_key=table.matching(
            "api_key",
            table.text("api_key", "${OPENAI_API_KEY}"),
            _KEY,
            "is no key; copy it again, ASCII without spaces",
        ),
        model=table.text("model", "gpt-realtime-2.1"),
        voice=table.text("voice", "marin"),
        audio=_audio(table),
    )


def _audio(table: Table) -> AudioFormat:
    asked = table.one_of("audio", table.text("audio", "pcmu"), AUDIO_FORMATS, "audio format")
    return "pcm24" if asked == "pcm24" else "pcmu"


def _agents(root: Table, models: Mapping[str, ModelSettings]) -> dict[str, AgentSettings]:
    table = root.table("agents")
    if not table.names():
        root.refuse("agents", "there is no agent; write a table [agents.front-desk] with instructions")
    return {name: _agent(table.table(_named(table, name, "agent")), name, models) for name in table.names()}


def _agent(table: Table, name: str, models: Mapping[str, ModelSettings]) -> AgentSettings:
    table.only(_keys(AgentSettings))
    tools = table.texts("tools")
    for tool in tools:
        table.matching("tools", tool, _TOOL, 'names a tool by module and function; write "clinic_tools:book"')
    transfer_to = table.optional_text("transfer_to")
    if transfer_to is not None:
        table.matching("transfer_to", transfer_to, _PHONE, 'must be a number; write "+15550100009"')
    webhook = table.text("transfer_webhook", "", empty=True)
    if webhook:
        webhook = _address(table, "transfer_webhook", webhook, ("http", "https"), query=True)
    agent = AgentSettings(
        name=name,
        model=table.one_of("model", table.text("model", "main"), models, "model"),
        instructions=table.text("instructions"),
        greeting=table.optional_text("greeting"),
        tools=tools,
        transfer_to=transfer_to,
        transfer_sms=table.boolean("transfer_sms", False),
        transfer_webhook=webhook,
        record=table.boolean("record", False),
        language=table.matching(
            "language", table.text("language", "en"), _LANGUAGE, 'must be a language; write "en" or "pt-BR"'
        ),
    )
    if agent.transfer_sms and agent.transfer_to is None:
        table.refuse("transfer_sms", 'needs a human to send it to; write transfer_to = "+15550100009"')
    return agent


def _routes(table: Table, agents: Mapping[str, AgentSettings]) -> dict[str, str]:
    routes: dict[str, str] = {}
    if not agents:
        return routes
    for key in table.names():
        table.matching(
            key, key, _ROUTE, 'unknown key; did you mean "default", or a number such as "+15550100002"?'
        )
        routes[key] = table.one_of(key, table.text(key), agents, "agent")
    if routes:
        return routes
    if len(agents) == 1:
        return {"default": next(iter(agents))}
    table.refuse("default", f'is missing; write default = "{next(iter(agents))}"')
    return routes


def _resilience(table: Table) -> Resilience:
    table.only(_keys(Resilience))
    default = Resilience()
    return Resilience(
        comfort_text=table.text("comfort_text", default.comfort_text),
        comfort_after_ms=table.integer("comfort_after_ms", default.comfort_after_ms, 0, 10_000),
        model_retries=table.integer("model_retries", default.model_retries, 0, 20),
        model_give_up_seconds=table.number("model_give_up_seconds", default.model_give_up_seconds, 0, 3600),
        model_stall_seconds=table.number("model_stall_seconds", default.model_stall_seconds, 0.1, 300),
        carrier_return_seconds=table.number(
            "carrier_return_seconds", default.carrier_return_seconds, 1, 3600
        ),
        tool_timeout_seconds=table.number("tool_timeout_seconds", default.tool_timeout_seconds, 0.1, 3600),
        max_silence_seconds=table.number("max_silence_seconds", default.max_silence_seconds, 1, 86400),
        max_call_seconds=table.number("max_call_seconds", default.max_call_seconds, 1, 86400),
        model_rotate_minutes=table.number("model_rotate_minutes", default.model_rotate_minutes, 0.05, 1440),
    )


def _comfort_folder(table: Table, base: Path) -> Path | None:
    folder = table.only(("folder",)).optional_text("folder")
    if folder is None:
        return None
    path = base / folder
    if not path.is_dir():
        table.refuse("folder", "there is no such folder beside the file; create it, or remove the key")
        return None
    return path


def _keys(settings: type) -> list[str]:
    """The keys of a table are the fields of its settings; a name stands in the table's own heading."""
    return [field.name for field in attrs.fields(settings) if field.name != "name"]


def _named(table: Table, name: str, what: str) -> str:
    return table.matching(
        name, name, _NAME, f"a name of a {what} has letters, digits, - and _; write [{table.path}.main]"
    )


def _address(table: Table, key: str, default: str, schemes: tuple[str, ...], *, query: bool = False) -> str:
    """The address as it was written, its scheme in small letters: others look at how it begins."""
    url = table.text(key, default)
    if (remedy := _wrong_with_address(url, schemes, query=query)) is not None:
        table.refuse(key, remedy)
        return default
    scheme = urlsplit(url).scheme
    return scheme + url[len(scheme) :]


def _wrong_with_address(url: str, schemes: tuple[str, ...], *, query: bool) -> str | None:
    remedy = f'must be an address; write "{schemes[-1]}://…"'
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return remedy
    if (
        parts.scheme not in schemes
        or not parts.hostname
        or not parts.path.isascii()
        or any(c.isspace() or not c.isprintable() for c in url)
    ):
        return remedy
    if not is_host(parts.hostname):
        return NO_HOST
    if "@" in parts.netloc:
        return "must not hold a user name or a password; write the address alone"
    if "#" in url or ("?" in url and not query):
        return "must not have a ? or a #; write the address alone"
    return None
