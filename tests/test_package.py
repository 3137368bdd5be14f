"""The house: who imports whom, what an import loads, and what a build gives with and without a compiler."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the top down; a room may import rooms of its own layer and of those below.
LAYERS = [
    ["cli"],
    ["demo", "train_scorer", "reproduce", "line"],
    ["report", "detector", "outcome", "evaluate", "inspection", "doctor"],
    ["recipes", "baselines"],
    ["train", "scorer_training"],
    [
        "score",
        "scorer",
        "features",
        "coverage",
        "metrics",
        "checkpoint",
        "public_checkpoint",
        "model",
        "diffusion",
        "align",
        "surface",
        "views",
        "neighbours",
        "nearest",
        "planes",
        "place",
        "synth",
        "simulate",
        "scans",
    ],
    ["ops"],
    ["backends", "philox", "engine"],
    ["config", "errors"],
]
LEVEL = {name: depth for depth, names in enumerate(LAYERS) for name in names}
HEAVY = (
    "torch",
    "triton",
    "pykeops",
    "trimesh",
    "pypcd4",
    "laspy",
    "matplotlib",
    "scipy",
    "sklearn",
    "open3d",
    "faiss",
    "ray",
    "fastapi",
    "torchvision",
)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


def room(module: str) -> str | None:
    """``r3dad.report.page`` -> ``report``; None for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "r3dad" and len(parts) > 1 else None


@pytest.mark.parametrize("path", sources("r3dad"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downwards_only(path):
    own = path.relative_to(ROOT / "r3dad").parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    assert own in LEVEL, f"{own} has no place in LAYERS"
    for module in imported(path):
        other = room(module)
        if other is None or other == own or other == "__version__":
            continue
        assert other != "kernels", f"{path.name} imports {module}: kernels are reached by name, through r3dad.backends"
        assert other in LEVEL, f"{module} has no place in LAYERS"
        assert LEVEL[other] >= LEVEL[own], f"{own} imports {other}, which stands above it"


@pytest.mark.parametrize("path", sources("kernels"), ids=lambda p: p.name)
def test_kernels_see_tensors_and_philox_only(path):
    for module in imported(path):
        if module.split(".")[0] == "r3dad":
            assert module == "r3dad" or room(module) in ("kernels", "philox", "_cpu", "_cuda"), (
                f"{path.name} imports {module}"
            )
        assert module.split(".")[0] != "kernels", "kernels are r3dad.kernels"


def test_operations_know_no_kernel_library():
    for path in sources("r3dad/ops"):
        assert not {m.split(".")[0] for m in imported(path)} & {"triton", "pykeops", "faiss", "scipy"}


def test_native_sources_know_no_torch():
    files = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".inc", ".cu")]
    assert len(files) > 10
    for path in files:
        assert "torch/" not in path.read_text() and "ATen" not in path.read_text(), path


def test_instruction_set_units_hold_no_code_of_the_standard_library():
    """The linker may keep an inline function's AVX-512 copy for everybody; these units include nothing that defines one."""
    allowed = {"float.h", "math.h", "stdint.h", "string.h", "immintrin.h", "simd.h", "cstdint"}
    for path in [*(ROOT / "csrc/cpu/isa").iterdir(), ROOT / "csrc/cpu/kernels.h"]:
        for line in path.read_text().splitlines():
            if line.startswith("#include") and not line.rstrip().endswith('.inc"'):
                name = line.split()[1].strip('<>"')
                assert name in allowed or name == "../kernels.h", f"{path.name} includes {name}"


def python(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=200
    )


def test_import_is_light():
    code = f"import sys, r3dad; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code, ROOT).stdout.strip() == "[]"


def test_public_names_resolve():
    import r3dad

    for name in r3dad.__all__:
        assert getattr(r3dad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        r3dad.nothing  # noqa: B018


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What git has, nothing built."""
    for name in ("r3dad", "kernels", "csrc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "CMakeLists.txt", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "ENVS.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_plain_checkout_works_with_nothing_built(checkout):
    code = (
        # An editable install hands out its own modules wherever a package of that name lacks them.
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f)];"
        "import torch, r3dad, r3dad.kernels; from r3dad import backends, ops; x = torch.rand(1, 9, 3);"
        "print(r3dad.kernels.__file__); print(ops.knn(x, x, 2)[1].shape, backends.choose('knn', x, x, 2)[0]);"
        "print(backends.why_not('knn', 'cpu', x, x, 2))"
    )
    run = python(code, checkout)
    where, result, reason = run.stdout.splitlines() or [run.stderr, "", ""]
    assert Path(where) == checkout / "kernels" / "__init__.py"
    assert result == "torch.Size([1, 9, 2]) torch"
    assert "not importable" in reason and "_cpu" in reason


def build(checkout: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=checkout,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=200,
    )


def ours(run: subprocess.CompletedProcess) -> list[str]:
    return [line for line in run.stderr.splitlines() if line.startswith("r3dad:")]


def test_without_a_compiler_the_build_says_one_line_and_goes_on(checkout):
    run = build(checkout, CXX=str(checkout / "no-compiler"), R3DAD_NATIVE="auto", R3DAD_CUDA="0")
    assert run.returncode == 0, run.stderr
    assert len(ours(run)) == 1 and "plain PyTorch" in ours(run)[0]
    assert not list(checkout.glob("r3dad/*.so"))
    required = build(checkout, CXX=str(checkout / "no-compiler"), R3DAD_NATIVE="require", R3DAD_CUDA="0")
    assert required.returncode != 0 and len(ours(required)) == 1


def test_build_variables_are_checked(checkout):
    assert "R3DAD_NATIVE='maybe' is not one of auto, require, off" in build(checkout, R3DAD_NATIVE="maybe").stderr
    assert "R3DAD_CUDA='yes' is not one of" in build(checkout, R3DAD_CUDA="yes").stderr
    off = build(checkout, R3DAD_NATIVE="off")
    assert off.returncode == 0 and not (checkout / "build").exists()
    missing = build(checkout, R3DAD_CUDA="1", CUDACXX=str(checkout / "no-nvcc"))
    assert missing.returncode != 0 and "R3DAD_CUDA=1 but nvcc was not found" in missing.stderr


def test_every_variable_is_documented():
    text = (ROOT / "ENVS.md").read_text()
    reads = re.compile(r"(?:environ\.get\(|environ\[|getenv\(|choice\()\s*[\"'](R3DAD_[A-Z_]+)[\"']")
    used = set()
    for path in [
        *sources("r3dad"),
        *sources("kernels"),
        *sources("tests"),
        ROOT / "setup.py",
        *(ROOT / "csrc").rglob("*.cpp"),
    ]:
        used.update(reads.findall(path.read_text()))
    assert {"R3DAD_NATIVE", "R3DAD_BACKEND", "R3DAD_CPU_ISA"} <= used
    assert not {name for name in used if f"`{name}`" not in text}


@pytest.mark.slow
def test_wheel_holds_package_kernels_native_module_and_data(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(command, cwd=checkout, env={**os.environ, "R3DAD_CUDA": "0", "R3DAD_NATIVE": "require"}, check=True)
    (wheel,) = out.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*sources("r3dad"), *sources("kernels")]:
        inside = path.relative_to(ROOT)
        assert str(inside if inside.parts[0] == "r3dad" else Path("r3dad") / inside) in names
    for path in (ROOT / "r3dad").rglob("*"):
        if path.suffix in (".json", ".safetensors", ".html", ".js", ".css"):
            assert str(path.relative_to(ROOT)) in names, path
    assert any(n.startswith("r3dad/_cpu.") and n.endswith(".so") for n in names)
    assert not [n for n in names if n.split("/")[0] in ("kernels", "csrc", "tests", "benchmarks")]
    # Installed, away from the checkout.
    zipfile.ZipFile(wheel).extractall(out / "site")
    code = (
        "import torch; from r3dad import backends; x = torch.rand(1, 9, 3); print(backends.choose('knn', x, x, 2)[0])"
    )
    assert python(code, out, PYTHONPATH=str(out / "site")).stdout.strip() == "cpu"
