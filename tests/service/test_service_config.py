"""Configuration: the documented file loads; every mistake is one sentence with file, key and remedy."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.errors import ConfigError
from callrt.policy.settings import Resilience, ServerSettings
from callrt.service.config import load_journal_settings, load_settings

ENV = {
    "TWILIO_ACCOUNT_SID": "AC" + "1" * 32,
    "TWILIO_AUTH_TOKEN": "f" * 32,
    "OPENAI_API_KEY": "sk-test-key",
}

DOCUMENTED = """
[server]
host = "127.0.0.1"
port = 8080
public_url = "http://127.0.0.1:8080"
admin_host = "127.0.0.1"
admin_port = 8081
drain_seconds = 30

[journal]
url = "sqlite:///callrt.db"

[carriers.twilio]
account_sid = "${TWILIO_ACCOUNT_SID}"
auth_token = "${TWILIO_AUTH_TOKEN}"
api_url = "https://api.twilio.com"
verify_signatures = true

[models.main]
provider = "openai-realtime"
url = "wss://api.openai.com/v1/realtime"
api_key = "${OPENAI_API_KEY}"
model = "gpt-realtime-2.1"
voice = "marin"

[agents.front-desk]
model = "main"
instructions = "You answer the phone for a clinic."
greeting = "Hello, this is the clinic. How can I help?"
tools = ["clinic_tools:book_appointment"]
transfer_to = "+15550100009"
transfer_sms = false
transfer_webhook = ""
record = false

[routes]
default = "front-desk"

[resilience]
comfort_text = "One moment please."
comfort_after_ms = 300
model_retries = 1
model_give_up_seconds = 20
model_stall_seconds = 5
carrier_return_seconds = 15
tool_timeout_seconds = 10
max_silence_seconds = 60
max_call_seconds = 1800
model_rotate_minutes = 50
"""

SMALLEST = '[agents.front-desk]\ninstructions = "You answer."\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "callrt.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, text), ENV if env is None else env)
    message = str(caught.value)
    assert "callrt.toml" in message
    assert "\n" not in message
    assert caught.value.exit_status == 2
    return message


def test_documented_file_loads_with_its_values(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, DOCUMENTED), ENV)
    assert settings.folder == tmp_path
    assert settings.server == ServerSettings(public_url="http://127.0.0.1:8080")
    assert settings.resilience == Resilience()
    assert settings.twilio.auth_token == ENV["TWILIO_AUTH_TOKEN"]
    assert settings.models["main"].api_key == "sk-test-key"
    assert settings.agents["front-desk"].tools == ("clinic_tools:book_appointment",)
    assert settings.agents["front-desk"].transfer_to == "+15550100009"
    assert settings.routes == {"default": "front-desk"}


def test_left_out_keys_have_the_documented_defaults(tmp_path: Path) -> None:
    short = load_settings(write(tmp_path, SMALLEST), ENV)
    full = load_settings(write(tmp_path, DOCUMENTED), ENV)
    assert short.server.reached_on(short.server.port) == full.server.public_url
    assert attrs.evolve(short.server, public_url=full.server.public_url) == full.server
    for part in ("journal_url", "twilio", "models", "routes", "resilience", "comfort_folder"):
        assert getattr(short, part) == getattr(full, part)


def test_a_models_audio_is_the_telephones_unless_told_otherwise(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, SMALLEST), ENV).models["main"].audio == "pcmu"
    other = load_settings(write(tmp_path, f"[models.main]\naudio = 'pcm24'\n{SMALLEST}"), ENV)
    assert other.models["main"].audio == "pcm24"


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    shown = repr(load_settings(write(tmp_path, DOCUMENTED), ENV))
    assert ENV["TWILIO_AUTH_TOKEN"] not in shown
    assert ENV["OPENAI_API_KEY"] not in shown


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("[server]\nprot = 1", '[server] prot: unknown key; did you mean "port"?'),
        ("[sever]\nport = 1", "[sever]: unknown key; did you mean [server]?"),
        ("[server]\nHost = 'x'", '[server] Host: unknown key; did you mean "host"?'),
        ("[journal]\nuri = ''", '"url"'),
        ("[carriers.twillio]", '"twilio"'),
        ("[carriers.twilio]\ntoken = ''", '"auth_token"'),
        ("[models.main]\nvoise = ''", '"voice"'),
        ("[agents.x]\ninstruction = ''", '[agents.x] instruction: unknown key; did you mean "instructions"?'),
        ("[resilience]\ncomfort_after = 1", '"comfort_after_ms"'),
        ("[comfort]\nfoldr = ''", '"folder"'),
        ("zzz = 1", "[zzz]: unknown key; did you mean ["),
    ],
)
def test_unknown_key_names_the_nearest(wrong: str, named: str, tmp_path: Path) -> None:
    assert named in complaint(tmp_path, f"{wrong}\n{SMALLEST}")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("[server]\nport = '8080'", "[server] port: must be a whole number, without quotes"),
        ("[server]\nport = true", "whole number"),
        ("[server]\nport = 8080.0", "whole number"),
        ("[server]\nhost = 1", "[server] host: must be a string in quotes"),
        ("[server]\ndrain_seconds = 'x'", "must be a number, without quotes"),
        ("[carriers.twilio]\nverify_signatures = 'yes'", "true or false, without quotes"),
        ("[carriers.twilio]\nverify_signatures = 1", "true or false, without quotes"),
        ("[agents.x]\ninstructions='y'\ntools = 'a:b'", "a list in brackets"),
        ("[agents.x]\ninstructions='y'\ntools = [1]", "a list of strings"),
        ("server = 1", "server: must be a table; begin it with a line [server]"),
        ("carriers = {twilio = 1}", "carriers.twilio: must be a table"),
    ],
)
def test_wrong_type_says_what_to_write(wrong: str, named: str, tmp_path: Path) -> None:
    assert named in complaint(tmp_path, f"{wrong}\n{SMALLEST}")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("[server]\nport = 65536", "between 0 and 65535"),
        ("[server]\nadmin_port = 8080", "[server] admin_port: is the public port"),
        ("[server]\npublic_url = 'example.org'", "[server] public_url: must be an address"),
        ("[server]\npublic_url = 'https://h?x=1'", "must not have a ?"),
        ("[server]\npublic_url = 'https://u:p@h'", "user name"),
        ("[server]\npublic_url = 'https://h:port'", "must be an address"),
        ("[server]\npublic_url = 'https://h x'", "must be an address"),
        ("[server]\npublic_url = 'https://a..b'", "[server] public_url: no host can have that name"),
        ("[server]\npublic_url = 'https://h?'", "must not have a ?"),
        ("[server]\npublic_url = 'https://h#'", "must not have a ?"),
        ("[server]\nadmin_port = 8080\nhost = 'localhost'", "[server] admin_port: is the public port"),
        ("[server]\nadmin_port = 8080\nhost = '0.0.0.0'", "[server] admin_port: is the public port"),
        ("[server]\nhost = 'my host'", "[server] host: no host can have that name"),
        (f"[server]\nhost = '{'h' * 70}'", "[server] host: no host can"),
        ("[server]\nadmin_host = 'a..b'", "[server] admin_host: no host can"),
        (f"[server]\ndrain_seconds = {'9' * 400}", "between 0 and 86400"),
        (f"[server]\nport = {'9' * 5000}", "too many digits"),
        (f"[server]\nhost = {'[' * 3000}", "nested too deeply"),
        ("[journal]\nurl = 'sqlite:////'", 'must name a file; write url = "sqlite:///callrt.db"'),
        ('[journal]\nurl = "sqlite:///a\\u0000b.db"', "must name a file"),
        ("[journal]\nurl = 'sqlite:///a%00b.db'", "must name a file"),
        ("[resilience]\ncarrier_return_seconds = 0", "between 1 and 3600"),
        ("[server]\nhost = ''", "[server] host: is empty"),
        ("[journal]\nurl = 'postgres://h/db'", "sqlite:///callrt.db"),
        ("[models.main]\nurl = 'https://api.openai.com'", '"wss://'),
        ("[models.main]\nurl = 'ws://a..b:8765/v1'", "[models.main] url: no host can have that name"),
        (f"[models.main]\nurl = 'wss://{'x' * 70}.test'", "[models.main] url: no host can have that name"),
        ("[models.main]\nurl = 'wss://h.test/\N{EURO SIGN}'", "[models.main] url: must be an address"),
        ("[models.main]\napi_key = 'sk-t\N{EURO SIGN}st'", "[models.main] api_key: is no key"),
        ("[models.main]\napi_key = 'sk- test'", "[models.main] api_key: is no key"),
        ("[models.main]\nprovider = 'openai'", 'did you mean "openai-realtime"?'),
        ("[models.main]\naudio = 'pcm'", '[models.main] audio: there is no audio format "pcm"'),
        ("[models.'a b']", "[models] a b: a name of a model"),
        ("[resilience]\ncomfort_after_ms = -1", "between 0 and 10000"),
        ("[resilience]\nmax_call_seconds = inf", "between 1 and 86400"),
        ("[resilience]\nmax_call_seconds = nan", "between 1 and 86400"),
        ("[resilience]\nmodel_retries = 1000", "between 0 and 20"),
        ("[agents.x]\ninstructions='y'\nmodel = 'mian'", 'there is no model "mian"; did you mean "main"?'),
        ("[agents.x]\ninstructions='y'\ntools = ['book']", 'write "clinic_tools:book"'),
        ("[agents.x]\ninstructions='y'\ntransfer_to = '555'", 'write "+15550100009"'),
        ("[agents.x]\ninstructions='y'\ntransfer_sms = true", "transfer_to"),
        ("[agents.x]\ninstructions='y'\ntransfer_webhook = 'h'", "must be an address"),
        ("[agents.x]\ninstructions='y'\nlanguage = 'English'", 'write "en"'),
        ("[agents.x]", '[agents.x] instructions: is missing; write instructions = "…"'),
        ("[agents.x]\ninstructions = '  '", "is empty"),
        ("[routes]\ndefault = 'front-dsk'", 'there is no agent "front-dsk"; did you mean "front-desk"?'),
        ("[routes]\ndefualt = 'front-desk'", 'did you mean "default"'),
        ("[comfort]\nfolder = 'nowhere'", "[comfort] folder: there is no such folder"),
    ],
)
def test_wrong_value_says_what_to_write(wrong: str, named: str, tmp_path: Path) -> None:
    assert named in complaint(tmp_path, f"{wrong}\n{SMALLEST}")


def test_scheme_in_capitals_is_the_same_address(tmp_path: Path) -> None:
    text = (
        "[server]\npublic_url = 'HTTPS://Calls.example.org/X'\n[models.main]\nurl = 'WSS://h/V1'\n"
        f"{SMALLEST}transfer_webhook = 'Http://h/T?q'\n"
    )
    settings = load_settings(write(tmp_path, text), ENV)
    assert settings.server.public_url == "https://Calls.example.org/X"
    assert settings.models["main"].url == "wss://h/V1"
    assert settings.agents["front-desk"].transfer_webhook == "http://h/T?q"


@pytest.mark.parametrize(
    "host", ["localhost", "::1", "0.0.0.0", "fe80::1%eth0", "my_host.lan.", "bücher.example"]
)
def test_names_and_addresses_are_hosts(host: str, tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, f"[server]\nhost = '{host}'\n{SMALLEST}"), ENV).server.host == host


def test_two_addresses_may_have_the_same_port(tmp_path: Path) -> None:
    for ports in ("host = '10.0.0.1'\nadmin_port = 8080", "port = 0\nadmin_port = 0"):
        assert load_settings(write(tmp_path, f"[server]\n{ports}\n{SMALLEST}"), ENV)


def test_several_agents_need_a_route(tmp_path: Path) -> None:
    text = f"{SMALLEST}[agents.sales]\ninstructions = 'x'\n"
    assert '[routes] default: is missing; write default = "front-desk"' in complaint(tmp_path, text)


def test_numbers_and_addresses_are_routes(tmp_path: Path) -> None:
    text = SMALLEST + "[routes]\n'+15550100002' = 'front-desk'\n'sip:desk@h' = 'front-desk'\n"
    assert list(load_settings(write(tmp_path, text), ENV).routes) == ["+15550100002", "sip:desk@h"]


def test_no_agent_is_an_error(tmp_path: Path) -> None:
    assert "[agents.front-desk]" in complaint(tmp_path, "")


@pytest.mark.parametrize("name", sorted(ENV))
def test_missing_environment_variable_is_named(name: str, tmp_path: Path) -> None:
    env = {key: value for key, value in ENV.items() if key != name}
    assert f"environment variable {name} is not set" in complaint(tmp_path, SMALLEST, env)


def test_environment_stands_anywhere_in_a_string_and_for_numbers(tmp_path: Path) -> None:
    text = SMALLEST + "[server]\npublic_url = 'https://${HOST}/x'\nport = '${PORT}'\n"
    server = load_settings(write(tmp_path, text), {**ENV, "HOST": "h.test", "PORT": "9000"}).server
    assert (server.public_url, server.port) == ("https://h.test/x", 9000)


@pytest.mark.parametrize("text", ["${}", "${A", "${1A}", "${A-B}"])
def test_malformed_reference_says_what_to_write(text: str, tmp_path: Path) -> None:
    assert "write ${NAME}" in complaint(tmp_path, f"[server]\nhost = '{text}'\n{SMALLEST}")


def test_empty_secret_is_an_error(tmp_path: Path) -> None:
    assert "auth_token: is empty" in complaint(tmp_path, SMALLEST, {**ENV, "TWILIO_AUTH_TOKEN": ""})


def test_no_error_quotes_a_value_from_the_environment(tmp_path: Path) -> None:
    env = {**ENV, "SECRET": "hunter2-hunter2"}
    for place in (
        "[server]\nport",
        "[server]\npublic_url",
        "[journal]\nurl",
        "[models.main]\nurl",
        "[models.main]\nprovider",
    ):
        assert "hunter2" not in complaint(tmp_path, f"{place} = '${{SECRET}}'\n{SMALLEST}", env)


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings(tmp_path / "none.toml", ENV)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path, ENV)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    assert "line 2" in complaint(tmp_path, "[server]\nport = = 1\n")
    path = tmp_path / "callrt.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(path, ENV)


def test_comfort_folder_is_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    settings = load_settings(write(tmp_path, SMALLEST + "[comfort]\nfolder = 'lines'\n"), ENV)
    assert settings.comfort_folder == tmp_path / "lines"


def test_journal_keeps_calls_for_as_many_days_as_it_is_told(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, SMALLEST), ENV).journal_keep_days == 400
    assert (
        load_settings(write(tmp_path, SMALLEST + "[journal]\nkeep_days = 30\n"), ENV).journal_keep_days == 30
    )
    with pytest.raises(ConfigError, match=r"\[journal\] keep_days: must be between 1 and 36500"):
        load_settings(write(tmp_path, SMALLEST + "[journal]\nkeep_days = 0\n"), ENV)


def test_journal_alone_needs_no_credentials(tmp_path: Path) -> None:
    assert load_journal_settings(write(tmp_path, SMALLEST), {}) == (tmp_path, "sqlite:///callrt.db")


def test_misspelt_table_is_no_other_journal(tmp_path: Path) -> None:
    path = write(tmp_path, "[jurnal]\nurl = 'sqlite:///mine.db'\n")
    with pytest.raises(ConfigError, match=r"\[jurnal\]: unknown key; did you mean \[journal\]\?"):
        load_journal_settings(path, {})


toml_values = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.booleans().map(lambda b: str(b).lower()),
    st.floats().map(str),
    st.text(st.characters(codec="ascii", exclude_characters="'\n\r\x00"), max_size=12)
    .filter(str.isprintable)
    .map(lambda text: f"'{text}'"),
    st.just("[]"),
    st.just("{}"),
    st.just("1979-05-27"),
)
sections = st.sampled_from(
    ["server", "journal", "carriers.twilio", "models.main", "agents.x", "routes", "resilience", "comfort"]
)
keys = st.sampled_from(
    [
        "host",
        "port",
        "public_url",
        "url",
        "auth_token",
        "provider",
        "model",
        "audio",
        "instructions",
        "tools",
        "default",
        "comfort_after_ms",
        "max_call_seconds",
        "folder",
        "x",
    ]
)


@given(sections, keys, toml_values)
def test_any_value_anywhere_loads_or_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, section: str, key: str, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"[{section}]\n{key} = {value}\n{SMALLEST}")
    complaints = []
    try:
        load_settings(path, ENV)
    except ConfigError as error:
        complaints.append(str(error))
    assert not any("\n" in complaint for complaint in complaints)
