"""What every table shares: the data sets, the schedule, and running its units of work here or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from r3dad.config import PaperConfig, from_json
from r3dad.engine import run_units
from r3dad.errors import InputError
from r3dad.evaluate import checked
from r3dad.scans import DatasetClass, class_folders, list_classes, write_atomic

QUICK = {"iterations": 150, "batch": 8, "points": 512}
"""The paper recipe's settings under ``--quick``: a minute on a CPU, and far from trained."""
POINTS = {"real3d": 4096, "shapenet": 2048}
"""N of the paper, by data set."""
EVERY = {True: 50, False: 1000}
"""Iterations between evaluations, with and without ``--quick``; 1000 is the public code's."""
LAYOUTS = tuple(POINTS)
PAPER = "r3dad-paper"
"""The paper's recipe among the methods."""


def paper_settings(run: Run, layout: str) -> dict[str, Any]:
    """Settings of the paper's recipe: the paper's for that data set or the short schedule, and what the user set."""
    schedule = QUICK if run.quick else {"points": POINTS[layout]}
    return {**schedule, **run.settings.get(PAPER, {})}


def paper_words(run: Run, layout: str) -> str:
    """The schedule of the paper's recipe in this run, to be printed with its figures."""
    config, paper = from_json(PaperConfig, paper_settings(run, layout)), PaperConfig
    share = paper.iterations * paper.batch * POINTS[layout] / (config.iterations * config.batch * config.points)
    name = run.kind
    if share > 1:
        name += f", {share:.0f} times less than the paper's, so that a difference says nothing of the method"
    given = f"; set {run.settings[PAPER]}" if PAPER in run.settings else ""
    return (
        f"{name}: {config.iterations} iterations of {config.batch} clouds of {config.points} points, "
        f"evaluated every {run.interval}{given}"
    )


class Work(Protocol):
    """A unit of work: figures of one class, method and seed, kept in files and not computed twice."""

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """The figures."""
        ...


Unit = TypeVar("Unit", bound=Work)


@dataclass
class Run:
    """What the user asked for, and what was skipped on the way.

    Attributes:
        real3d, shapenet: folders of the data sets. out: for results; everything that is done there is not done again.
        quick: the short schedule. seeds, classes, methods: None is all (methods: of the table).
        settings: method -> its settings, beside those of the schedule.
        protocol: ``last`` or ``paper-best-epoch``, of the paper recipe's rows where a table shows but one.
        every: iterations between evaluations of the paper's recipe; None: of the schedule.
        results: folder of finished ``r3dad evaluate`` runs, of which tables 1, 2, 7 and Fig. 4 are made in place of running anything.
        engine, address: see ``r3dad.engine``. skipped: reason -> what could not be run for it.
    """

    out: Path
    real3d: Path | None = None
    shapenet: Path | None = None
    quick: bool = False
    seeds: tuple[int, ...] = (0,)
    classes: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    protocol: str = "last"
    every: int | None = None
    results: Path | None = None
    device: str | None = None
    engine: str = "local"
    address: str | None = None
    progress: Callable[[float, str], None] | None = None
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def items(self, layout: str) -> list[DatasetClass]:
        """The classes to run of one data set; a class that cannot be used is skipped with its reason.

        Raises:
            InputError: the data set is not given, or nothing in it can be used.
        """
        root = self.real3d if layout == "real3d" else self.shapenet
        if root is None:
            raise InputError(f"--{layout}: not given; this table needs the folder of that data set")
        found = []
        for name in class_folders(root, layout, self.classes):
            try:
                found += [checked(item) for item in list_classes(root, layout, [name])]
            except InputError as error:
                self.skip(name, str(error))
        if not found:
            raise InputError(f"{root}: no class can be run ({'; '.join(self.skipped) or 'no <class>/train in it'})")
        return found

    @property
    def interval(self) -> int:
        """Iterations between evaluations of the paper's recipe."""
        return self.every or EVERY[self.quick]

    @property
    def kind(self) -> str:
        """The schedule's name."""
        if self.results:
            return "finished runs"
        return "quick schedule" if self.quick else "schedule as set" if PAPER in self.settings else "full schedule"

    def data(self, layout: str, names: Sequence[str]) -> str:
        """Where classes come from, in words."""
        root = self.results or (self.real3d if layout == "real3d" else self.shapenet)
        assert root is not None  # the classes come from it
        return f"{'' if self.results else f'{layout} layout, '}folder {root.resolve().name}, {in_short(names)}"

    def skip(self, what: str, reason: str) -> None:
        """Note that something could not be run."""
        self.skipped.setdefault(reason, []).append(what)

    def results_of(self, units: Sequence[Unit]) -> list[tuple[Unit, dict[str, Any]]]:
        """The figures of every unit that could be run, in the units' order.

        Raises:
            InputError: none could be run.
        """
        say = self.progress or (lambda share, words: None)
        found: dict[int, dict[str, Any] | None] = {}  # by unit; None: skipped

        def here(unit: Unit) -> dict[str, Any]:
            return unit.run(lambda share, words: say((len(found) + share) / len(units), f"{unit} {words}"))

        run = run_units(
            units,
            here if self.engine == "local" else _figures,
            engine=self.engine,
            address=self.address,
            gpus=1.0 if self.device == "cuda" else 0.0,
            progress=say,
        )
        for unit, result in run:
            found[id(unit)] = None if isinstance(result, InputError) else result
            if isinstance(result, InputError):
                self.skip(str(unit), str(result))
        done = [(unit, figures) for unit in units if (figures := found[id(unit)]) is not None]
        if not done:
            raise InputError(f"nothing could be run: {'; '.join(self.skipped)}")
        return done


def in_short(names: Sequence[str]) -> str:
    """Names of classes, counted where they are many."""
    return f"{len(names)} classes" if len(names) > 4 else ", ".join(names)


def _figures(unit: Work) -> dict[str, Any]:
    return unit.run()


def kept_figures(file: Path, config: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures in ``file``, or those of ``compute``, which are then kept there.

    Raises:
        InputError: ``file`` holds figures of another config.
    """
    if file.exists():
        found = json.loads(file.read_text())
        if found["config"] != config:
            raise InputError(f"{file}: results of other settings; give another --out or delete the file")
        return found["figures"]
    figures = compute()
    write_atomic(file, json.dumps({"config": config, "figures": figures}, indent=1))
    return figures
