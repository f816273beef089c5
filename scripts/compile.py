"""Compile the modules of ``src/callrt/compiled.py`` with mypyc, beside their sources or into another folder.

``make compiled`` and the package's build (``hatch_build.py``) run this. It takes a minute, mostly the C compiler's.
Exit 1, and nothing changed, when there is no compiler or a module does not compile.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
GROUP = "callrt.compiled_modules"
"""The library that holds them all; each module's own file only points into it."""
DIRECT_CALLS = [] if os.name == "nt" else ["-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt"]
"""Nobody else calls into that library or replaces a function of it: its own calls need no table, and are inlined."""


def compile_into(package: Path, choice: dict[str, Any]) -> int:
    """Build in a folder of its own, then move; returns how many files there are."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # Before, not after: who changes a source meanwhile is to run what he has written.
    manifest = json.dumps(choice["manifest"](SOURCES / "callrt"), indent=1)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(choice["source_of"](module, SOURCES / "callrt")) for module in choice["MODULES"]]
        options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", f"{folder}/mypy", *files]
        os.environ["MYPYPATH"] = str(SOURCES)
        extensions = mypycify(
            options, opt_level="2", debug_level="0", group_name=GROUP, target_dir=f"{folder}/c"
        )
        for extension in extensions:
            extension.extra_compile_args += DIRECT_CALLS
        build = build_ext(Distribution({"name": "callrt", "ext_modules": extensions}))
        build.build_lib, build.build_temp = f"{folder}/lib", f"{folder}/objects"
        build.ensure_finalized()
        build.run()
        made = sorted(Path(folder, "lib").rglob("*" + sysconfig.get_config_var("EXT_SUFFIX")))
        forget(package, choice["MANIFEST"])
        for file in made:
            target = package.parent / file.relative_to(Path(folder, "lib"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
    (package / choice["MANIFEST"]).write_text(manifest + "\n")
    return len(made)


def forget(package: Path, manifest: str) -> None:
    """Remove what was compiled before, also of modules that are not any more."""
    (package / manifest).unlink(missing_ok=True)
    for file in (*package.rglob("*.so"), *package.rglob("*.pyd")):
        file.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=SOURCES / "callrt", help="the package's folder")
    parser.add_argument("--remove", action="store_true", help="only remove what was compiled")
    args = parser.parse_args()
    # The module by its path: callrt itself need not be installed, nor what it needs.
    choice = runpy.run_path(str(SOURCES / "callrt" / "compiled.py"))
    if args.remove:
        forget(args.into, choice["MANIFEST"])
        return 0
    try:
        made = compile_into(args.into, choice)
    except ImportError as error:
        print(f"callrt: nothing compiled: {error.name} is not installed", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"callrt: nothing compiled: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"callrt: {len(choice['MODULES'])} modules compiled ({made} files)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
