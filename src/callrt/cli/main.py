"""``callrt``: one file per verb. A person's mistake is one sentence and exit status 2, never a traceback."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from callrt import __version__, compiled
from callrt.errors import CallrtError, ConfigError

VERBS = {
    "demo": "callrt.cli.demo",
    "serve": "callrt.cli.serve",
    "check": "callrt.cli.check",
    "calls": "callrt.cli.calls",
    "emulate": "callrt.cli.emulate",
    "sim": "callrt.cli.sim",
    "chaos": "callrt.cli.chaos",
}
"""Each module has ``add_parser(subparsers)``, which sets ``run``: ``run(args) -> int``, the exit status. Imported
only when asked for: ``calls list`` needs no web server."""

EPILOG = """\
a first call with Twilio and OpenAI:
  callrt check                          is callrt.toml right?
  callrt serve                          answer calls; point the number's voice webhook
                                        at PUBLIC_URL/twilio/voice
  callrt calls list                     which calls there were
  callrt calls show CA0123…             who said what, what failed, how it ended

exit status: 0 done; 1 ran and failed; 2 usage or configuration
Each command has its own --help.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except CallrtError as error:
        print(f"callrt: {error}", file=sys.stderr)
        return error.exit_status
    except SystemExit as leaving:
        # argparse has printed what is wrong, or the help that was asked for.
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        return 1
    except BaseExceptionGroup as group:
        # As it comes out of Trio's nurseries.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return 1
    except BrokenPipeError:
        # Whoever read our output has had enough. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the verb that was typed; with all verbs when it is about to print them."""
    parser = argparse.ArgumentParser(
        prog="callrt",
        description="Phone calls with speech-to-speech agents that do not drop.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"callrt {__version__}, {_form()}")
    subparsers = parser.add_subparsers(dest="verb", metavar="COMMAND", title="commands", required=True)
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.0)[0]
        raise ConfigError(f'there is no command "{verb}"; did you mean "{near}"? See callrt --help')
    for name, module in VERBS.items():
        if verb in (None, name):
            import_module(module).add_parser(subparsers)
    return parser


def _form() -> str:
    """As what the modules run that every frame goes through."""
    return f"plain Python ({compiled.REASON})" if compiled.REASON else "compiled"


if __name__ == "__main__":
    sys.exit(main())
