"""Families of parts: each draws the proportions of one design from a random stream and returns its distance field."""

from __future__ import annotations

from r3dad.simulate.families import boxes, formed, sheet, turned  # noqa: F401  (their families register themselves)
from r3dad.simulate.families.tools import MAKERS, THIN, Solid

__all__ = ["MAKERS", "THIN", "Solid"]
