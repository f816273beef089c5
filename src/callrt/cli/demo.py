"""``callrt demo``: one whole phone call over loopback, broken in mid-call and measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from callrt.errors import CallrtError, ConfigError

if TYPE_CHECKING:
    from callrt.testing.demo import Performance
    from callrt.testing.timeline import Guarantee

EPILOG = """\
examples:
  callrt demo                             break everything once: about a minute
  callrt demo --break model --out heard   only the model dies; heard/call.wav has the call
  callrt demo --break none                a call as it should be

The server is the real one, in a process of its own. The carrier and the model are emulated here and speak
their whole protocols over loopback sockets; nobody is called, and nothing leaves this machine. DIR gets
call.wav (left said, right heard), call.json (as callrt calls show --json) and timeline.html, for a browser.

exit status: 0 if every guarantee that was put to the test held; 1 if not; 2 usage
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="a phone call that is broken and rescued, to look at and listen to",
        description="One whole phone call that lives through the faults named, measured at the caller's end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default %(default)s"
    )
    parser.add_argument(
        "--break",
        dest="what",
        default="all",
        choices=("none", "model", "carrier", "tool", "process", "all"),
        help="what breaks in mid-call (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="where exactly it breaks (default %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 when all held; 1 when something did not, or a port is taken; 2 for what is missing."""
    import trio

    from callrt.testing.demo import perform
    from callrt.testing.demo.plot import make_plot
    from callrt.testing.demo.show import make_show
    from callrt.testing.demo.verdict import judge
    from callrt.testing.speech import SpeechUnavailable

    _make_folder(args.out)
    print(f"callrt demo: one phone call, --break {args.what} --seed {args.seed}; the voices are being made")
    try:
        plot = make_plot(args.what, args.seed)
        with make_show("callrt demo") as show:
            seen = trio.run(perform, plot, args.out / "server", show)
    except SpeechUnavailable as error:
        raise ConfigError(f"{error}.") from error
    except BaseExceptionGroup as group:
        raise _first(group) from None
    guarantees = judge(seen)
    _write(args.out, seen, guarantees)
    return _print(args.out, seen, guarantees)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be made: {error.strerror}.") from error


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _write(folder: Path, seen: Performance, guarantees: tuple[Guarantee, ...]) -> None:
    from callrt.testing.demo.story import tell_story
    from callrt.testing.timeline import render

    try:
        seen.write_wav(folder / "call.wav")
        (folder / "call.json").write_text(seen.shown, encoding="utf-8")
        (folder / "timeline.html").write_text(render(tell_story(seen, guarantees)), encoding="utf-8")
    except OSError as error:
        raise CallrtError(f"{error.filename} cannot be written: {error.strerror}") from error


def _print(folder: Path, seen: Performance, guarantees: tuple[Guarantee, ...]) -> int:
    from rich.console import Console

    from callrt.testing.demo.show import verdict

    width = None if sys.stdout.isatty() else 160
    console = Console(highlight=False, width=width)
    console.print()
    verdict(console, [(g.name, g.title, g.figure, g.limit, g.held) for g in guarantees])
    broken = [g for g in guarantees if not g.held]
    console.print()
    console.print(
        f"{seen.seconds:.1f} s of call; {folder}/call.wav, {folder}/call.json, {folder}/timeline.html"
    )
    if broken:
        console.print(
            f"{len(broken)} of {len(guarantees)} figures did not hold; {folder}/server/log.txt may tell why"
        )
    else:
        console.print(f"All {len(guarantees)} figures held.")
    return 1 if broken else 0
