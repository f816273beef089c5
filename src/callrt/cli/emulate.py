"""``callrt emulate carrier|model``: the demo's emulators as standing programs."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from callrt.cli import arguments
from callrt.errors import CallrtError, ConfigError
from callrt.service.config_reader import is_host

if TYPE_CHECKING:
    from callrt.testing.carrier_plan import Drop, Human
    from callrt.testing.carrier_run import Act

VOICE_PATH = "/twilio/voice"

EPILOG = """examples:
  callrt emulate model --port 8765
      a speech model at ws://127.0.0.1:8765/v1/realtime; set it as [models.main] url
  callrt emulate carrier --app http://127.0.0.1:8080 --say "Hello." --say "Thank you." --out heard
      one call to a running callrt serve; heard/call.wav has both voices
"""

CARRIER_EPILOG = """examples:
  callrt emulate carrier --app http://127.0.0.1:8080 --say "I need an appointment."
  callrt emulate carrier --app http://127.0.0.1:8080 --wav question.wav --press 1 --calls 20
  callrt emulate carrier --app http://127.0.0.1:8080 --say "Hello." --drop rst@3000 --rest-port 8090

The caller waits for the agent's words, says each --say, --wav and --press in the order given, and hangs up
when the last answer is over. The token is that of [carriers.twilio] auth_token.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "emulate",
        help="an emulated carrier or speech model, to develop against",
        description="The carrier and the model of the demo, as programs of their own. Neither needs an account.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_subparsers(dest="emulated", required=True, metavar="carrier|model")
    _add_carrier(what)
    _add_model(what)
    parser.set_defaults(run=run)


def _add_carrier(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser(
        "carrier",
        help="place telephone calls to an app",
        description="Places a call, or several at once, to an app that speaks Twilio's protocols. Prints what happens.",
        epilog=CARRIER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--app", required=True, metavar="URL", help=f"public_url of the app; {VOICE_PATH} is added")
    add("--auth-token", metavar="TOKEN", help="signs the requests (default $TWILIO_AUTH_TOKEN)")
    add("--account-sid", metavar="AC…", help="default $TWILIO_ACCOUNT_SID, or an invented one")
    for option, metavar, text in (
        ("--say", "TEXT", "the caller says this; may be repeated"),
        ("--wav", "FILE", "the caller plays this recording; may be repeated"),
        ("--press", "DIGITS", "the caller presses these keys; may be repeated"),
    ):
        add(option, action=_InOrder, dest="acts", metavar=metavar, help=text)
    add("--voice", default="en-us", metavar="NAME", help="espeak-ng voice of --say (default %(default)s)")
    add("--stay", action="store_true", help="stay on the line until the app hangs up")
    add("--calls", type=int, default=1, metavar="N", help="so many calls at once (default 1)")
    add(
        "--drop",
        action="append",
        default=[],
        metavar="HOW@MS",
        help="lose the stream (rst, fin, close, half_open) at the first mark after so many ms of the agent"
        " have been heard; may be repeated",
    )
    add(
        "--human",
        default="answers",
        choices=("answers", "busy", "no-answer", "failed"),
        help="what happens at a number that the app dials (default %(default)s)",
    )
    add("--rest-port", type=arguments.port, metavar="PORT", help="offer the REST interface there")
    add("--from", dest="from_number", default="+15550100001", metavar="NUMBER", help="the caller")
    add("--to", dest="to_number", default="+15550100002", metavar="NUMBER", help="the called number")
    add("--seed", metavar="TEXT", help="fixes the CallSids (default: new ones each time)")
    add("--out", type=Path, metavar="DIR", help="write call.wav there: left said, right heard")


def _add_model(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser(
        "model",
        help="answer as a speech-to-speech model",
        description="Serves OpenAI's Realtime protocol on a local port, with a scripted or an echoing voice.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=arguments.port, default=8765, metavar="PORT", help="default %(default)s"
    )
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help="what to answer to what (default: an echo)"
    )


class _InOrder(argparse.Action):
    """Keeps ``--say``, ``--wav`` and ``--press`` in one list, in the order of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        acts = [*(getattr(namespace, self.dest) or []), (str(option_string).removeprefix("--"), values)]
        setattr(namespace, self.dest, acts)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0; 1 when a call was not answered or did not end in order; 2 for wrong usage."""
    try:
        return _run_model(args) if args.emulated == "model" else _run_carrier(args)
    except CallrtError as error:
        print(f"callrt: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 0 if args.emulated == "model" else 1


def _run_model(args: argparse.Namespace) -> int:
    from callrt.testing import model_server

    return int(model_server.run(port=args.port, script=args.script))


def _run_carrier(args: argparse.Namespace) -> int:
    import trio

    from callrt.testing.carrier_run import Errand, run_errand
    from callrt.testing.speech import SpeechUnavailable, synthesize

    auth_token = args.auth_token or os.environ.get("TWILIO_AUTH_TOKEN", "")
    if not auth_token:
        raise ConfigError(
            "Give --auth-token, or set TWILIO_AUTH_TOKEN, as in the app's [carriers.twilio] auth_token."
        )
    if args.calls < 1:
        raise ConfigError("--calls wants a number of at least 1.")
    if args.out is not None:
        _make_folder(args.out)
    try:
        errand = Errand(
            voice_url=_voice_url(args.app),
            auth_token=auth_token,
            account_sid=args.account_sid or os.environ.get("TWILIO_ACCOUNT_SID") or "AC" + "0" * 31 + "1",
            acts=tuple(_act(kind, value, args.voice) for kind, value in args.acts or ()),
            calls=args.calls,
            stay=args.stay,
            drops=tuple(_drop(text) for text in args.drop),
            human=_human(args.human),
            out=args.out,
            rest_port=args.rest_port,
            from_number=args.from_number,
            to_number=args.to_number,
            seed=args.seed if args.seed is not None else secrets.token_hex(16),
        )
        well = trio.run(run_errand, errand, _speak_for_the_carrier(synthesize), _print_line)
    except SpeechUnavailable as error:
        raise ConfigError(f"{error}.") from error
    except OSError as error:
        raise CallrtError(
            f"The REST interface cannot listen on port {args.rest_port}: {error.strerror}."
        ) from error
    return 0 if well else 1


def _print_line(text: str) -> None:
    print(text, flush=True)


def _speak_for_the_carrier(synthesize: Any) -> Any:
    """``<Say>`` has a language tag; the synthesiser has voices named after languages."""

    def speak(text: str, language: str) -> bytes:
        primary = language.split("-")[0].lower()
        return bytes(synthesize(text, "en-us" if primary == "en" else primary))

    return speak


def _voice_url(app: str) -> str:
    try:
        parts = urlsplit(app)
        usable = parts.scheme in ("http", "https") and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:  # brackets that are not closed, a port that is no number
        usable = False
    if not usable:
        raise ConfigError(f"--app {app} is not an address; write http://127.0.0.1:8080 or the like.")
    path = VOICE_PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _act(kind: str, value: str, voice: str) -> Act:
    from callrt.comfort import ComfortError, pcm
    from callrt.testing.carrier_run import Digits, Words
    from callrt.testing.speech import synthesize

    if kind == "press":
        if not value or value.strip("0123456789*#"):
            raise ConfigError(f"--press {value} has keys that no telephone has; write digits, * and #.")
        return Digits(value)
    if kind == "say":
        return Words(value, synthesize(value, voice))
    try:
        return Words(value, pcm.to_mulaw(pcm.to_int16(pcm.read_wav(Path(value), seconds_max=600))))
    except ComfortError as error:
        raise ConfigError(f"{error}.") from error


def _drop(text: str) -> Drop:
    from callrt.testing.carrier_plan import Drop

    how, _, ms = text.partition("@")
    if how not in ("rst", "fin", "close", "half_open") or not ms.isdecimal() or len(ms) > 9:
        raise ConfigError(f"--drop {text} is not understood; write rst@3000, fin@…, close@… or half_open@….")
    notice = 5.0 if how == "half_open" else None
    return Drop(how, heard_ms=int(ms), notice_seconds=notice)  # type: ignore[arg-type]


def _human(reaction: str) -> Human:
    from callrt.testing.carrier_plan import Human
    from callrt.testing.speech import synthesize

    says = synthesize("Hello, this is a human. How can I help?", "en-us+f3") if reaction == "answers" else b""
    return Human(reaction, says=says)  # type: ignore[arg-type]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be made: {error.strerror}.") from error
