"""The way in: ``Detector`` fits good scans, predicts scans, and is one file on disk."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r3dad import __version__, checkpoint
from r3dad.errors import InputError
from r3dad.scans import as_scan, check_spread

if TYPE_CHECKING:
    from r3dad.inspection import Inspection, Tolerance

RECIPES = {"aligned": "r3dad.recipes.aligned:AlignedRecipe", "paper": "r3dad.recipes.paper:PaperRecipe"}


@dataclass(frozen=True)
class Prediction:
    """Of a scan of M points, in the scan's own units and frame.

    Attributes:
        score: of the scan, higher is more anomalous.
        is_defective: whether the score exceeds the model's threshold; None where no verdict is given (``note`` says why).
        point_scores: [M] float32, higher is more anomalous.
        displacement: [M, 3] from each point to its place on the good part.
        reconstruction: [M, 3], points + displacement.
        deviation: [M] signed distance along the good surface's normal (+ material, - missing), or None for a recipe without.
        note: one line for the user, or empty.
    """

    score: float
    is_defective: bool | None
    point_scores: np.ndarray
    displacement: np.ndarray
    reconstruction: np.ndarray
    deviation: np.ndarray | None = None
    note: str = ""


def _recipe(name: str) -> Any:
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown: expected one of {', '.join(RECIPES)}")
    module, _, cls = RECIPES[name].partition(":")
    return getattr(importlib.import_module(module), cls)


class Detector:
    """Finds defects on scans of one part, given good scans of it.

    Example:
        >>> detector = Detector().fit(["good1.ply", "good2.ply", "good3.ply"])  # doctest: +SKIP
        >>> detector.predict("part.ply").score  # doctest: +SKIP

    Args:
        recipe: one of ``RECIPES``.
        device: ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.
        settings: of the recipe: :class:`r3dad.recipes.aligned.AlignedConfig`, :class:`r3dad.config.PaperConfig`.

    Raises:
        InputError: the recipe is unknown.
    """

    def __init__(self, recipe: str = "aligned", *, device: str | None = None, **settings: Any):
        self._kind = _recipe(recipe)
        self._device = device
        self._settings = settings
        self._fitted: Any = None

    @property
    def device(self) -> str:
        """The device that the model runs on.

        Raises:
            InputError: the device that was asked for is not there.
        """
        import torch

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError):  # torch without CUDA asserts
            raise InputError(
                f"device {device!r}: not there for this PyTorch; expected cpu, or cuda on a machine with an NVIDIA GPU"
            ) from None
        return device

    @property
    def recipe(self) -> Any:
        """The fitted recipe.

        Raises:
            InputError: nothing is fitted yet.
        """
        if self._fitted is None:
            raise InputError("the detector is not fitted: call fit(scans) or Detector.load(path) first")
        return self._fitted

    @property
    def threshold(self) -> float:
        """Score above which a scan is defective; from good scans and synthetic defects only."""
        return self.recipe.threshold

    def fit(
        self,
        scans: Iterable[Any] = (),
        *,
        nominal: str | Path | None = None,
        progress: Callable[[float, str], None] | None = None,
        resume: str | Path | None = None,
    ) -> Detector:
        """Learn from good scans.

        Args:
            scans: paths, arrays or tensors [M, 3], Open3D or trimesh objects.
            nominal: a mesh of the part (mm) instead of scans; the recipe's ``note`` says what that loses.
            progress: called now and then with the share done and a few words.
            resume: file that keeps the state of the training, so that an interrupted ``fit`` goes on from there.

        Raises:
            InputError: a scan cannot be read or used, there is none, or a setting is wrong.
        """
        read = [as_scan(scan) for scan in scans]
        for i, scan in enumerate(read):
            try:
                check_spread(scan.points)
            except InputError as error:
                raise InputError(f"good scan {i + 1}: {error}") from None
        clouds = [scan.points for scan in read]
        if nominal is not None:
            from r3dad.inspection.nominal import LOST, nominal_points

            if clouds or self._kind.name != "aligned":
                raise InputError(
                    "nominal: it stands in place of good scans, for the aligned recipe; leave the others out"
                )
            clouds = [nominal_points(nominal)]
        if not clouds:
            raise InputError("fit: expected at least one good scan, got none")
        self._fitted = self._kind.fit(
            clouds, device=self.device, progress=progress, resume=Path(resume) if resume else None, **self._settings
        )
        if nominal is not None:
            self._fitted.note = LOST
        return self

    def predict(self, scan: Any) -> Prediction:
        """Score a scan: a path, array or tensor [M, 3], Open3D or trimesh object.

        Raises:
            InputError: the scan cannot be read or used.
        """
        recipe, points = self.recipe, as_scan(scan).points
        check_spread(points)
        result = recipe.predict(points)
        known = math.isfinite(recipe.threshold)  # a public checkpoint brings none
        return Prediction(
            score=result.score,
            is_defective=bool(result.score > recipe.threshold) if result.is_this_part and known else None,
            point_scores=result.point_scores,
            displacement=result.displacement,
            reconstruction=points + result.displacement,
            deviation=result.deviation,
            note=result.note,
        )

    def inspect(self, scan: Any, *, tolerance: Tolerance | None = None) -> Inspection:
        """Judge a scan: verdict, alignment, defects in mm, deviation against tolerances.

        Args:
            scan: as of :meth:`predict`.
            tolerance: limits that a person gives, beside the learned ones.

        Raises:
            InputError: the scan cannot be read or used.
        """
        from r3dad.inspection import inspect

        return inspect(self.recipe, scan, tolerance=tolerance)

    def save(self, path: str | Path) -> None:
        """Write the model to one ``.safetensors`` file, whole or not at all."""
        tensors, settings = self.recipe.state()
        checkpoint.save(
            path, "model", tensors, {"recipe": self.recipe.name, "r3dad": __version__, "settings": settings}
        )

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Detector:
        """Read a model that :meth:`save` wrote.

        Raises:
            InputError: the file is missing, damaged, of another kind or version.
        """
        tensors, header = checkpoint.load(path, "model")
        detector = cls(header["recipe"], device=device)
        try:
            detector._fitted = detector._kind.from_state(tensors, header["settings"], detector.device)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"{path}: damaged model file ({str(error).splitlines()[0]}); fit the model again"
            ) from None
        return detector

    @classmethod
    def from_public_checkpoint(
        cls, path: str | Path, good_scans: Iterable[Any] = (), *, device: str | None = None
    ) -> Detector:
        """A model that the public R3D-AD code trained, on this package's kernels.

        Args:
            path: a torch file with ``args`` and ``state_dict``; loaded without executing anything in it.
            good_scans: to calibrate the threshold with; without them predictions carry no verdict.

        Raises:
            InputError: the file or a scan cannot be read or used.
        """
        from r3dad.public_checkpoint import read_public_checkpoint

        detector = cls("paper", device=device)
        config, model = read_public_checkpoint(path)
        recipe = detector._kind(config, model, detector.device)
        clouds = [as_scan(scan).points for scan in good_scans]
        if clouds:
            recipe.calibrate(clouds)
        detector._fitted = recipe
        return detector
