"""Compiles the engine: `python -m experiments.analysis.compiled.compile [FOLDER]`.

Numba makes machine code of the marked functions; it is written as one object file, which
native.py loads without numba. `./inv` calls this when it makes the virtual environment.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.analysis.compiled import jit, native

if TYPE_CHECKING:
    import numpy as np


def build() -> bytes:
    """Return the object file. Takes tens of seconds; to be called in a process of its own."""
    jit.MODE[0] = jit.COMPILED
    import numba  # noqa: PLC0415 - only here
    from llvmlite import binding  # noqa: PLC0415 - only here

    parts, signatures = [], native.signatures()
    for name, function in native.functions().items():
        entry = _entry(name, function, signatures[name])
        made = numba.cfunc(_types(signatures[name]), error_model="numpy")(entry)
        text = made.inspect_llvm().replace(made.native_name, native.SYMBOL + name)
        parts.append(binding.parse_assembly(text))
    whole = parts[0]
    for part in parts[1:]:
        whole.link_in(part)
    whole.verify()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )
    emitted: bytes = machine.emit_object(whole)
    return emitted


def _types(signature: tuple[np.dtype[Any] | None, ...]) -> Any:  # noqa: ANN401 - numba has no types
    import numba  # noqa: PLC0415 - only here

    types: list[Any] = []
    for item in signature:
        if item is None:
            types.append(numba.int64)
        else:
            pointer: Any = numba.types.CPointer
            types += [pointer(numba.from_dtype(item)), numba.int64]
    return numba.int64(*types)


def _entry(name: str, function: Any, signature: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as above
    """Return a function that makes arrays of pointers and calls the other; numba wants source."""
    taken, given = [], []
    for index, item in enumerate(signature):
        if item is None:
            taken.append(f"n{index}")
            given.append(f"n{index}")
        else:
            taken += [f"p{index}", f"n{index}"]
            given.append(f"carray(p{index}, (n{index},))")
    source = f"def {name}({', '.join(taken)}):\n    return function({', '.join(given)})\n"
    import numba  # noqa: PLC0415 - only here

    names = {"function": function, "carray": numba.carray}  # type: ignore[attr-defined] # documented
    exec(source, names)  # noqa: S102 - made of signatures alone
    return names[name]


def write(folder: Path) -> Path:
    """Compile into a folder, atomically; return the object file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / native.file_name()
    data = build()
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".making-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(scratch).chmod(0o644)
    Path(scratch).replace(path)
    for old in folder.glob("engine-*.o"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else native.shared())
