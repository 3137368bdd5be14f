"""``r3dad evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r3dad.cli.common import Device, Iterations, Recipe, Settings, app, print_figures, settings_of, working


@app.command()
def evaluate(
    root: Annotated[Path, typer.Argument(help="Folder of a data set in the Anomaly-ShapeNet or Real3D-AD layout.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, results.json and the models.")],
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    layout: Annotated[str, typer.Option(help="auto, shapenet or real3d.")] = "auto",
    recipe: Recipe = "aligned",
    iterations: Iterations = None,
    setting: Settings = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Fit and test every class of a data set. Classes that are done are kept, so an interrupted run goes on."""
    from r3dad.evaluate import evaluate as run

    with working("evaluate") as progress:
        results = run(
            root,
            out,
            recipe=recipe,
            settings=settings_of(setting, iterations=iterations),
            classes=classes.split(",") if classes else None,
            layout=layout,
            device=device,
            progress=lambda name, share, words: progress(share, f"{name} {words}"),
        )
    print_figures(results)
