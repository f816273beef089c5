"""The units and the container file start what there is, and give it the time that it takes to end."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

from callrt.cli.main import _parser
from callrt.policy.settings import ServerSettings
from callrt.service.running import LAST_WORDS_MARGIN, STOP_SECONDS

ROOT = Path(__file__).parent.parent.parent
OPS = ROOT / "ops"
SERVICE = OPS / "callrt@.service"
SOCKETS = (OPS / "callrt.socket", OPS / "callrt-admin.socket")
CONTAINERFILE = (OPS / "Containerfile").read_text("utf-8")


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text("utf-8"))
    return parser


def steps(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", CONTAINERFILE, re.MULTILINE)


def test_service_starts_a_command_that_exists() -> None:
    program, *arguments = shlex.split(unit(SERVICE)["Service"]["ExecStart"])
    assert Path(program).name == "callrt"
    options = _parser(arguments).parse_args(arguments)
    assert str(options.config) == "/etc/callrt/callrt.toml"


def test_service_has_the_time_to_drain() -> None:
    drain = ServerSettings().drain_seconds + LAST_WORDS_MARGIN + 2 * STOP_SECONDS
    assert float(unit(SERVICE)["Service"]["TimeoutStopSec"]) > drain
    assert unit(SERVICE)["Service"]["KillSignal"] == "SIGTERM"
    [seconds] = re.findall(r"--stop-timeout (\d+)", CONTAINERFILE)
    assert float(seconds) > drain


def test_sockets_have_the_names_and_ports_that_the_service_knows() -> None:
    lent = unit(SERVICE)["Service"]["Sockets"].split()
    assert lent == [path.name for path in SOCKETS]
    defaults = ServerSettings()
    known = {
        "public": f"{defaults.host}:{defaults.port}",
        "admin": f"{defaults.admin_host}:{defaults.admin_port}",
    }
    units = [unit(path)["Socket"] for path in SOCKETS]
    assert {each["FileDescriptorName"]: each["ListenStream"] for each in units} == known


def test_units_are_understood_by_systemd(tmp_path: Path) -> None:
    """Where there is one; what it says of a program that is not installed is no matter."""
    program = unit(SERVICE)["Service"]["ExecStart"].split()[0]
    blue = tmp_path / "callrt@blue.service"
    blue.write_text(SERVICE.read_text("utf-8").replace(program, sys.executable))
    for path in SOCKETS:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert SERVICE.read_text("utf-8").count(program) == 1
    verify = shutil.which("systemd-analyze")
    if verify is None:
        warnings.warn("no systemd-analyze here: only the test above has looked at the units", stacklevel=1)
        return
    units = [str(blue), *(str(tmp_path / path.name) for path in SOCKETS)]
    done = subprocess.run([verify, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "callrt" in line]
    assert (done.returncode, ours) == (0, [])


def test_container_is_made_of_files_that_exist() -> None:
    copied = [word for step in steps("COPY") if "--from" not in step for word in step.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for key in ("readme", "license-files"):
        for name in re.findall(rf'^{key} = \[?"([^"]+)"', project, re.MULTILINE):
            assert name in copied, f"the build needs {name}"


def test_container_starts_a_command_that_exists() -> None:
    [entry], [command] = steps("ENTRYPOINT"), steps("CMD")
    assert re.findall(r'"([^"]+)"', entry)[-1].endswith("/callrt")
    arguments = re.findall(r'"([^"]+)"', command)
    options = _parser(arguments).parse_args(arguments)
    assert (options.verb, options.host) == ("serve", "0.0.0.0")
    assert steps("STOPSIGNAL") == ["SIGTERM"]
