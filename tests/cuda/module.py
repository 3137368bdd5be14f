"""``r3dad._cuda`` on the host: the kernels' source compiled by g++ (``emulated.cpp``), the same functions with the same arguments."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
FLAGS = [
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-shared",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
]
TYPES = {
    "int": ctypes.c_int, "int64_t": ctypes.c_int64, "float": ctypes.c_float, "bool": ctypes.c_bool,
}  # fmt: skip


def build(folder: Path) -> Any:
    """The module, compiled unless the folder has it; ``last_warp_first(bool)`` chooses the order in which warps run."""
    path = folder / "emulated.so"
    source = HERE / "emulated.cpp"
    include = [f"-I{HERE}", f"-I{HERE.parent.parent / 'csrc'}"]
    if not path.exists():
        subprocess.run(["g++", *FLAGS, *include, str(source), "-o", str(path)], check=True)
    library = ctypes.CDLL(str(path))
    functions = {"devices": lambda: 1, "build_info": lambda: {"archs": "90a-real"}}
    exported = source.read_text().split('extern "C" {')[1]
    for name, arguments in re.findall(r"^void (\w+)\(([^)]*)\)", exported, re.MULTILINE):
        function = getattr(library, name)
        kinds = [ctypes.c_void_p if "*" in a else TYPES[a.split()[-2]] for a in arguments.split(",")]
        function.argtypes, function.restype = kinds, None
        functions[name] = function
    steps = functions["reverse_steps"]

    def reverse_steps(*arguments: Any) -> None:
        before, widths, after = arguments[:12], arguments[12], arguments[13:]
        steps(*before, len(widths) - 1, (ctypes.c_int * len(widths))(*widths), *after)

    return SimpleNamespace(**functions | {"reverse_steps": reverse_steps})
