"""``r3dad evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from r3dad.cli.common import Device, Iterations, Recipe, Settings, app, console, print_figures, settings_of, working
from r3dad.cli.reproduce import Protocol
from r3dad.errors import InputError


@app.command()
def evaluate(
    root: Annotated[Path, typer.Argument(help="Folder of a data set in the Anomaly-ShapeNet or Real3D-AD layout.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, results.json and the models.")],
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    layout: Annotated[str, typer.Option(help="auto, shapenet or real3d.")] = "auto",
    method: Annotated[
        str | None, typer.Option(help="r3dad (the default), r3dad-paper, or a rival: see docs/baselines.md.")
    ] = None,
    recipe: Recipe = "aligned",
    seed: Annotated[int, typer.Option(help="Of the repetition: 0, 1, ...")] = 0,
    iterations: Iterations = None,
    protocol: Protocol = "last",
    every: Annotated[int, typer.Option(help="Iterations between the evaluations of paper-best-epoch.")] = 1000,
    setting: Settings = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Fit and test every class of a data set. Classes that are done are kept, so an interrupted run goes on.

    Exit code 0: all classes, 1: some were skipped, 2: an error.
    """
    from r3dad.evaluate import RECIPES
    from r3dad.evaluate import evaluate as run

    named = {kind: name for name, kind in RECIPES.items()}
    if recipe not in named:
        raise InputError(f"--recipe {recipe}: expected one of {', '.join(named)}")
    if method and recipe != "aligned":
        raise InputError(f"--method {method} --recipe {recipe}: give one of the two")

    from r3dad.reproduce.protocols import PAPER, PROTOCOLS, evaluate_both

    method = method or named[recipe]
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: expected one of {', '.join(PROTOCOLS)}")
    if protocol != "last" and method != PAPER:
        raise InputError(f"--protocol {protocol}: of the paper's recipe alone; add --method {PAPER}")
    with working("evaluate") as progress:
        what: dict[str, Any] = {
            "seed": seed,
            "settings": settings_of(setting, iterations=iterations),
            "classes": classes.split(",") if classes else None,
            "layout": layout,
            "device": device,
            "progress": lambda name, share, words: progress(share, f"{name} {words}"),
        }
        if protocol == "last":
            results = {"": run(root, out, method=method, **what)}
        else:
            results = evaluate_both(root, out, every=every, **what)
    for name, figures in results.items():
        if name:
            console.print(f"protocol {name}")
        print_figures(figures)
    if any(figures["skipped"] for figures in results.values()):
        raise typer.Exit(1)
