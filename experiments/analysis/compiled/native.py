"""Calling the compiled code.

It is loaded from an object file by llvmlite alone, in a tenth of the time that numba takes to be
imported. The file's name holds a hash of the sources, of the compiler and of the processor, so a
stale or foreign one is never loaded. Where there is none (the virtual environment was not made by
`./inv`, or the sources changed) it is made once, which takes half a minute and is said.

The environment variable IMLAB_ENGINE chooses another way to run the same functions, for tests:
`plain` (Python) or `checked` (compiled, every index checked).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.analysis.compiled import jit
from lab.errors import Fault, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

SYMBOL: Final = "imlab_"
# Modules that name compiled functions: SOURCES (the files of their package that these are made of),
# SIGNATURES and functions().
PARTS: Final = (
    "experiments.analysis.capture.exports",
    "experiments.analysis.scanning.exports",
)
_HERE: Final = Path(__file__).parent
_OWN: Final = ("jit", "native", "compile")
_UNREACHED: Final = (
    "NRT_Allocate",
    "NRT_Free",
    "NRT_MemInfo_alloc",
    "NRT_MemInfo_call_dtor",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)


def shared() -> Path:
    """Return the folder within the virtual environment."""
    return Path(sys.prefix) / "imlab-engine"


def own() -> Path:
    """Return the user's own folder, for when that of the environment is not writable."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "imlab" / "engine"


def parts() -> list[ModuleType]:
    """Return the modules of PARTS; none of them imports the functions themselves."""
    return [importlib.import_module(name) for name in PARTS]


def signatures() -> dict[str, tuple[np.dtype[Any] | None, ...]]:
    """Return the types of what each function takes; None is a number."""
    return {name: row for part in parts() for name, row in part.SIGNATURES.items()}


def functions() -> dict[str, Callable[..., int]]:
    """Return the functions in the form that jit.MODE asks for."""
    return {name: one for part in parts() for name, one in part.functions().items()}


def _sources() -> Iterator[Path]:
    yield from (_HERE / f"{name}.py" for name in _OWN)
    for part in parts():
        folder = Path(str(part.__file__)).parent
        yield from (folder / f"{name}.py" for name in part.SOURCES)


@cache
def file_name() -> str:
    """Return the name of the object file that fits these sources and this machine."""
    import llvmlite  # noqa: PLC0415 - only where code is loaded
    from llvmlite import binding  # noqa: PLC0415 - as above

    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.read_bytes())
    digest.update(llvmlite.__version__.encode())  # numba asks for one version of it
    digest.update(f"{platform.machine()} {binding.get_host_cpu_name()}".encode())
    digest.update(binding.get_host_cpu_features().flatten().encode())
    return f"engine-{digest.hexdigest()[:20]}.o"


class Compiled:
    """The functions of `signatures`, called with numpy arrays, bytes to be read, and numbers."""

    def __init__(self, path: Path) -> None:
        """Load an object file."""
        from llvmlite import binding  # noqa: PLC0415

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        _symbols(binding)
        machine = binding.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(str(path))
        self._engine.finalize_object()
        self._functions: dict[str, Callable[..., int]] = {}
        for name, signature in signatures().items():
            types: list[Any] = []
            for item in signature:
                types += [ctypes.c_int64] if item is None else [ctypes.c_void_p, ctypes.c_int64]
            address = self._engine.get_function_address(SYMBOL + name)
            self._functions[name] = ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)

    def __call__(self, name: str, *values: np.ndarray[Any, Any] | bytes | int) -> int:
        """Call a function."""
        flat: list[Any] = []
        for value in values:
            if isinstance(value, np.ndarray):
                flat += [value.ctypes.data, len(value)]
            elif isinstance(value, bytes):
                flat += [value, len(value)]
            else:
                flat.append(value)
        return self._functions[name](*flat)


def _symbols(binding: Any) -> None:  # noqa: ANN401 - llvmlite has no types
    """Name what numba's wrappers refer to and never reach: the code raises nothing."""
    abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    for name in _UNREACHED:
        binding.add_symbol(name, abort)


class Interpreted:
    """The same functions as plain Python, or through numba with every index checked."""

    def __init__(self, mode: str) -> None:
        """Load the functions in one of jit's modes."""
        jit.MODE[0] = mode
        self._functions = functions()

    def __call__(self, name: str, *values: np.ndarray[Any, Any] | bytes | int) -> int:
        """Call a function."""
        arrays = [np.frombuffer(one, np.uint8) if isinstance(one, bytes) else one for one in values]
        return int(self._functions[name](*arrays))


@cache
def engine() -> Compiled | Interpreted:
    """Return the functions, compiled. Raises LabError when they can be neither found nor made."""
    mode = os.environ.get("IMLAB_ENGINE", "")
    if mode in {jit.PLAIN, jit.CHECKED}:
        return Interpreted(mode)
    for folder in (shared(), own()):
        if (folder / file_name()).is_file():
            return Compiled(folder / file_name())
    return Compiled(_make())


def _make() -> Path:
    import subprocess  # noqa: PLC0415 - only where code is compiled

    sys.stderr.write("imlab: compiling the evidence engine (once; half a minute)\n")
    said = ""
    for folder in (shared(), own()):
        # A process of its own: numba's memory is not ours to keep, nor are its modules.
        done = subprocess.run(
            [sys.executable, "-m", "experiments.analysis.compiled.compile", str(folder)],
            cwd=_HERE.parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and (folder / file_name()).is_file():
            return folder / file_name()
        said = done.stderr.strip().rpartition("\n")[2]
    raise LabError(
        "compiling the evidence engine",
        said or "it made no object file",
        fault=Fault.MACHINE,
        todo=f"Make {shared()} or {own()} writable; ./inv makes the environment anew.",
    )
