"""What every baseline is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Method(ABC):
    """A detector that is fitted on good scans and scores others; same figures for the same seed.

    Attributes:
        seed: of every draw. device: of the networks, where there are any.
        note: one line on what the figures depend on beside the settings (which weights), or empty.
    """

    def __init__(self, seed: int = 0, device: str = "cpu") -> None:
        self.seed, self.device, self.note = seed, device, ""

    @abstractmethod
    def fit(self, clouds: Sequence[np.ndarray]) -> None:
        """Learn from good scans, each [M_i, 3].

        Raises:
            InputError: a scan cannot be used, or something the method needs is missing.
        """

    @abstractmethod
    def score(self, points: np.ndarray) -> tuple[float, np.ndarray]:
        """Score of a scan [M, 3], and of its points [M] float64; higher is more anomalous.

        Raises:
            InputError: the scan cannot be used.
        """

    def bank_bytes(self) -> int:
        """Bytes of the memory bank (what is kept of the good scans); 0 for a method without."""
        return 0

    def model_bytes(self) -> int:
        """Bytes of the network's parameters; 0 for a method without."""
        return 0
