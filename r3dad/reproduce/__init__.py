"""The paper's tables and figures, each by its name: its figures beside ours (``r3dad reproduce``; docs/reproduce.md)."""

from __future__ import annotations

import importlib

from r3dad.errors import InputError
from r3dad.reproduce.run import Run
from r3dad.reproduce.table import Table

NAMES = {
    "table1": "r3dad.reproduce.comparison",
    "table2": "r3dad.reproduce.comparison",
    "table3": "r3dad.reproduce.ablation",
    "table4": "r3dad.reproduce.ablation",
    "table5": "r3dad.reproduce.likeness",
    "table6": "r3dad.reproduce.transfer",
    "table7": "r3dad.reproduce.comparison",
    "fig4": "r3dad.reproduce.costs",
    "fig6": "r3dad.reproduce.embedding",
}


def reproduce(name: str, run: Run) -> Table:
    """One table or figure of the paper, written to ``run.out`` as ``<name>.csv``, ``.json``, ``.md`` and, of a figure, ``.png``.

    Raises:
        InputError: the name is unknown, a data set that it needs is not given, or nothing could be run.
    """
    if name not in NAMES:
        raise InputError(f"{name!r} is unknown: expected one of {', '.join(NAMES)}")
    table = getattr(importlib.import_module(NAMES[name]), name)(run)
    table.write(run.out)
    return table


__all__ = ["NAMES", "Run", "Table", "reproduce"]
