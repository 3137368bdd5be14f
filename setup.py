"""Builds r3dad._cpu and r3dad._cuda through CMake and ninja; everything else stands in pyproject.toml. Variables: ENVS.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CUDA_ARCHS = "80-real;90a-real;90-virtual"


def choice(name: str, *values: str) -> str:
    """An environment variable with a closed set of values; the first is the default."""
    value = os.environ.get(name, values[0])
    if value not in values:
        raise SystemExit(f"r3dad: {name}={value!r} is not one of {', '.join(values)}")
    return value


NATIVE = choice("R3DAD_NATIVE", "auto", "require", "off")
CUDA = choice("R3DAD_CUDA", "auto", "0", "1")


class BuildError(Exception):
    """A part was not built; the message is one line."""


def find_nvcc() -> str | None:
    """nvcc where the user says, on PATH, or in the toolkit's usual place (CMake looks at the first two only)."""
    if "CUDACXX" in os.environ:
        return shutil.which(os.environ["CUDACXX"])
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def tool(name: str) -> str:
    """cmake or ninja: the ones of the build environment before the system's."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if found is None:
        raise BuildError(f"{name} not found")
    return found


def call(command: list[str], log: Path, what: str, env: dict[str, str]) -> None:
    with log.open("a") as out:
        code = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        errors = re.findall(r".*(?:error:|Error at|No CMAKE).*", log.read_text(errors="replace"))
        raise BuildError(f"{what} failed ({errors[0].strip() if errors else f'exit code {code}'}; see {log})")


class CMakeBuild(build_ext):
    """One CMake project for both modules, built in a folder of its own so that a rebuild is incremental."""

    def run(self) -> None:
        if not self.extensions:
            return
        built = []
        try:
            built = self.build_native()
        except BuildError as error:
            if NATIVE == "require":
                raise SystemExit(f"r3dad: {error}") from None
            print(
                f"r3dad: native kernels are not built ({error}); every operation runs in plain PyTorch", file=sys.stderr
            )
        # What was not built is not part of the package.
        self.extensions = [e for e in self.extensions if e.name in built]
        if self.inplace:
            self.copy_extensions_to_source()

    def copy_extensions_to_source(self) -> None:
        for extension in self.extensions:
            name = Path(self.get_ext_filename(extension.name))
            self.place(Path(self.build_lib) / name, ROOT / name)

    @staticmethod
    def place(source: Path, target: Path) -> None:
        """Whole or not at all: a process that has the old file open keeps it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.tmp")
        shutil.copy2(source, partial)
        os.replace(partial, target)

    def build_native(self) -> list[str]:
        nvcc = find_nvcc() if CUDA != "0" else None
        if CUDA == "1" and nvcc is None:
            raise SystemExit("r3dad: R3DAD_CUDA=1 but nvcc was not found; put it on PATH or set CUDACXX")
        sanitize = choice("R3DAD_SANITIZE", "0", "1") == "1"
        parts = [
            sysconfig.get_platform(),
            sys.implementation.cache_tag,
            *["cuda"] * bool(nvcc),
            *["sanitize"] * sanitize,
        ]
        tag = "-".join(parts)
        folder = ROOT / "build" / f"native-{tag}"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "build.log"
        log.write_text("")
        env = dict(os.environ, **({"CUDACXX": nvcc} if nvcc else {}))
        import pybind11

        cmake = tool("cmake")
        # The cache of another build environment names an interpreter that is gone: configure from scratch, keep the objects.
        (folder / "CMakeCache.txt").unlink(missing_ok=True)
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"),
            *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"),
            *(f"-DR3DAD_CUDA={CUDA if nvcc else '0'}", f"-DR3DAD_VERSION={VERSION}"),
            f"-DR3DAD_CUDA_ARCHS={os.environ.get('R3DAD_CUDA_ARCHS', CUDA_ARCHS)}",
            f"-DR3DAD_SANITIZE={'ON' if sanitize else 'OFF'}",
        ]
        call(configure, log, "configuring the native build", env)
        jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        built = []
        for name, wanted in (("_cpu", True), ("_cuda", nvcc is not None)):
            filename = self.get_ext_filename(f"r3dad.{name}")
            if not wanted:
                continue
            try:
                call([cmake, "--build", str(folder), "--target", name, *jobs], log, f"compiling r3dad.{name}", env)
                self.place(folder / Path(filename).name, Path(self.build_lib) / filename)
                built.append(f"r3dad.{name}")
            except (BuildError, FileNotFoundError) as error:
                if name == "_cpu" or CUDA == "1":
                    raise BuildError(str(error)) from None
                print(f"r3dad: CUDA kernels are not built ({error})", file=sys.stderr)
        return built


setup(
    packages=[*find_packages(include=["r3dad", "r3dad.*"]), "r3dad.kernels"],
    package_dir={"r3dad.kernels": "kernels"},
    include_package_data=False,  # package_data says it all
    package_data={"r3dad": ["**/*.json", "**/*.safetensors", "**/*.html", "**/*.js", "**/*.css", "py.typed"]},
    ext_modules=[] if NATIVE == "off" else [Extension("r3dad._cpu", []), Extension("r3dad._cuda", [])],
    cmdclass={"build_ext": CMakeBuild},
)
