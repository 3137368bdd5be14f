"""messages, their gradients and neighbour_mean: what a point hears from its neighbours, at the sizes of the aligned recipe."""

from __future__ import annotations

import pytest
import torch

from benchmarks import baselines, measure
from benchmarks.workloads import surface
from r3dad import ops
from r3dad.ops.messages import messages_backward_definition, messages_definition
from r3dad.ops.neighbour_mean import neighbour_mean_definition

COUNT, WIDTH, HEARD, COLUMNS = 8000, 40, 16, 10


def round_of_messages() -> tuple[torch.Tensor, ...]:
    """Of the shipped scorer on one scan."""
    generator = torch.Generator().manual_seed(0)
    cloud = surface(1, COUNT, "cpu")
    theirs, own = torch.randn(2, COUNT, WIDTH, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=generator), dim=1)
    edge, spacing = torch.randn(WIDTH, 4, generator=generator), torch.full((COUNT,), 0.02)
    return theirs, own, edge, cloud[0], normals, spacing, ops.knn(cloud, cloud, HEARD)[1][0]


def backward() -> measure.Workload:
    """Gradients of the same round, as in training."""
    grad = torch.randn(COUNT, 2 * WIDTH, generator=torch.Generator().manual_seed(1))
    return workload("messages_backward", messages_backward_definition, (grad, *round_of_messages()))


def means() -> measure.Workload:
    """The widest of the weighted means of the features of one scan."""
    generator = torch.Generator().manual_seed(0)
    cloud = surface(1, COUNT, "cpu")
    values, weights = (
        torch.randn(COUNT, COLUMNS, generator=generator),
        torch.rand(COUNT, 2 * HEARD, generator=generator),
    )
    return workload(
        "neighbour_mean", neighbour_mean_definition, (values, ops.knn(cloud, cloud, 2 * HEARD)[1][0], weights)
    )


def listed(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


def workload(op: str, definition, args: tuple) -> measure.Workload:
    exact = listed(definition(*(t.double() if t.is_floating_point() else t for t in args)))

    def error(got) -> float:
        return max(float((g.double() - e).abs().max() / e.abs().max()) for g, e in zip(listed(got), exact, strict=True))

    runs, absent = baselines.op_backends(op, *args)
    return measure.Workload(
        f"{op} {COUNT}",
        COUNT,
        {name: measure.Contender(run) for name, run in runs.items()},
        ("cpu",),
        error=error,
        absent=absent,
    )


def workloads() -> list[measure.Workload]:
    return [workload("messages", messages_definition, round_of_messages()), backward(), means()]


@pytest.mark.parametrize("workload, name", measure.cases(workloads()))
def test_neighbours(benchmark, workload, name):
    measure.run(benchmark, workload, name)
