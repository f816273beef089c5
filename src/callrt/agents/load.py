"""Tools named in a configuration: ``module:function``, found from the configuration file's folder."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from callrt.agents.declare import Tool
from callrt.agents.errors import ToolError

_loaded: dict[str, Path] = {}
"""Top-level modules that came from a configuration's folder, so that another folder may bring its own."""


def load_tools(paths: Sequence[str], folder: Path) -> list[Tool[..., Any]]:
    """Import each tool, in order. Raises :class:`ToolError`: one sentence, which path, what to write instead.

    The folder is put at the front of ``sys.path`` and stays there: tools may import their neighbours late.
    """
    folder = folder.resolve()
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
    importlib.invalidate_caches()
    tools = [_load(path, folder) for path in paths]
    names: dict[str, str] = {}
    for path, loaded in zip(paths, tools, strict=True):
        if loaded.name in names:
            raise ToolError(
                f"Tools {names[loaded.name]!r} and {path!r} are both named {loaded.name!r}: rename one."
            )
        names[loaded.name] = path
    return tools


def _load(path: str, folder: Path) -> Tool[..., Any]:
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ToolError(f'Tool {path!r} is not an import path: write "module:function".')
    module = _import(module_name, path, folder)
    found = vars(module).get(attribute)
    tools = {name: value for name, value in vars(module).items() if isinstance(value, Tool)}
    if found is None:
        raise ToolError(
            f"Tool {path!r}: module {module_name!r} has no {attribute!r}{_nearest(attribute, tools)}."
        )
    if not isinstance(found, Tool):
        if callable(found):
            raise ToolError(f"Tool {path!r} is a plain function: write @tool above it.")
        raise ToolError(f"Tool {path!r} is no tool but {type(found).__name__!r}{_nearest(attribute, tools)}.")
    found.origin = (folder, path)
    return found


def _import(module_name: str, path: str, folder: Path) -> ModuleType:
    top = module_name.partition(".")[0]
    here = (folder / f"{top}.py").exists() or (folder / top / "__init__.py").exists()
    if here and top in sys.modules and _loaded.get(top) != folder:
        if top not in _loaded:
            raise ToolError(f"Tool {path!r}: module name {top!r} is taken by another module: rename yours.")
        for stale in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[stale]
    try:
        module = importlib.import_module(module_name)
    except ToolError as error:
        raise ToolError(f"Tool {path!r}: {error}") from None
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            modules = [file.stem for file in sorted(folder.glob("*.py"))]
            near = _nearest(module_name, modules)
            raise ToolError(f"Tool {path!r}: there is no module {module_name!r} in {folder}{near}.") from None
        raise ToolError(
            f"Tool {path!r}: {module_name!r} imports {error.name!r}, which is not installed."
        ) from None
    except BaseException as error:  # the user's module runs here: it may even exit
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ToolError(
            f"Tool {path!r}: importing {module_name!r} failed with {type(error).__name__}{_where(error)}."
        ) from None
    if here:
        _loaded[top] = folder
    return module


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" in {error.filename} line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {frames[-1].filename} line {frames[-1].lineno}" if frames else ""


def _nearest(wrong: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?".rstrip("?") if near else ""
