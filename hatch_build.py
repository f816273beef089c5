"""Of the package's build: compile what ``src/callrt/compiled.py`` lists, where that can be done.

Without a C compiler, or with ``CALLRT_COMPILED=0``, the package is plain Python and works as well, only dearer.
An editable installation has what was compiled beside its sources.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """``version``: "standard", or "editable". Failing to compile is not failing to build."""
        if self.target_name != "wheel" or os.environ.get("CALLRT_COMPILED") == "0":
            return
        command = [sys.executable, str(Path(self.root, "scripts", "compile.py"))]
        if version == "editable":
            subprocess.run(command, check=False)
            return
        self._folder = tempfile.TemporaryDirectory()
        package = Path(self._folder.name, "callrt")
        package.mkdir()
        if subprocess.run([*command, "--into", str(package)], check=False).returncode:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in package.rglob("*"):
            if file.is_file():
                build_data["force_include"][str(file)] = f"callrt/{file.relative_to(package).as_posix()}"
