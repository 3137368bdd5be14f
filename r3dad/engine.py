"""Units of work, here or on a Ray cluster: the same function, the same results, as they finish.

Ray does the scheduling, the placing and the running again (``pip install 'r3dad[ray]'``); without it everything runs here, in order.
Independent of what a unit is: a class of a table, a file of an inspection.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from r3dad.errors import InputError

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]
Progress = Callable[[float, str], None]

_WAITING = 4  # units handed to Ray per CPU of the cluster, so that a long list does not fill its queues
_LOOK = 1.0  # seconds between looks at the cluster


def run_units(
    units: Sequence[Unit],
    work: Callable[[Unit], Result],
    *,
    engine: str = "local",
    address: str | None = None,
    gpus: float = 0.0,
    retries: int = 3,
    progress: Progress | None = None,
) -> Iterator[tuple[Unit, Result | InputError]]:
    """``work`` of every unit, each with its result as it finishes.

    Args:
        units: what ``work`` takes; on Ray they, ``work`` and the results travel between machines, files do not: paths in a unit must
            mean the same on every node.
        work: raises InputError for a unit that cannot be done; that is its result, and the others go on. Anything else it raises ends
            the run. On Ray it may run more than once for a unit, so it must be safe to repeat.
        engine: ``local``: in this process, one after another, in order. ``ray``: on a cluster, in the order they finish.
        address: of a running cluster (``auto``, ``HOST:6379``, ``ray://HOST:10001``); None starts Ray on this machine and ends it.
        gpus: of every unit, on Ray (0.5: two units share one); with 0 a unit sees no GPU there.
        retries: how often Ray runs a unit again whose worker died.
        progress: called with the share done and a few words.

    Yields:
        (unit, result), or (unit, InputError).

    Raises:
        InputError: an unknown engine, Ray is not installed or the cluster cannot be reached.
    """
    if engine not in ("local", "ray"):
        raise InputError(f"engine {engine!r} is unknown: expected local or ray")
    if engine == "local" and address is not None:
        raise InputError(f"address {address}: only engine ray has one; add --engine ray")
    run = _local(units, work, progress) if engine == "local" else _ray(units, work, address, gpus, retries, progress)
    say = progress or (lambda share, words: None)
    say(0.0, f"0 of {len(units)}")
    for done, (unit, result) in enumerate(run, 1):
        say(done / len(units), f"{done} of {len(units)} done, last {unit}")
        yield unit, result


def _attempt(work: Callable[[Unit], Result], unit: Unit) -> Result | InputError:
    try:
        return work(unit)
    except InputError as error:
        return error


def _local(
    units: Sequence[Unit], work: Callable[[Unit], Result], progress: Progress | None
) -> Iterator[tuple[Unit, Result | InputError]]:
    for i, unit in enumerate(units):
        if progress:
            progress(i / len(units), str(unit))
        yield unit, _attempt(work, unit)


def _ray(
    units: Sequence[Unit],
    work: Callable[[Unit], Result],
    address: str | None,
    gpus: float,
    retries: int,
    progress: Progress | None,
) -> Iterator[tuple[Unit, Result | InputError]]:
    with cluster(address) as ray:
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=retries)(_attempt)
        shared = ray.put(work)
        room = max(1, int(_WAITING * ray.cluster_resources().get("CPU", 1)))
        waiting: dict[Any, Unit] = {}
        rest, done = iter(units), 0
        try:
            while True:
                for unit in rest:
                    waiting[task.remote(shared, unit)] = unit
                    if len(waiting) >= room:
                        break
                if not waiting:
                    return
                ready, _ = ray.wait(list(waiting), timeout=_LOOK)
                if progress and not ready:
                    nodes = sum(node["Alive"] for node in ray.nodes())
                    progress(done / len(units), f"{done} of {len(units)} done, {nodes} nodes")
                for reference in ready:
                    unit, done = waiting.pop(reference), done + 1
                    yield unit, _result(ray, reference, unit, retries)
        finally:
            for reference in waiting:  # an interruption, or an error of a unit: what nobody waits for is not run
                ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any, unit: Any, retries: int) -> Any:
    try:
        return ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as error:
        why = str(error).strip().splitlines()[0]
        return InputError(f"{unit}: its worker died {retries + 1} times ({why}); see the memory of the nodes")


@contextlib.contextmanager
def cluster(address: str | None = None) -> Iterator[Any]:
    """The ``ray`` module, connected: to the cluster at ``address``, to one this process is already part of, or to one started here.

    What is started here is ended here.

    Raises:
        InputError: Ray is not installed, or nothing answers at ``address``.
    """
    try:
        import ray
    except ImportError:
        raise InputError("engine ray: Ray is not installed; pip install 'r3dad[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        if address and ":" in address:  # Ray itself waits for minutes, and writes a page
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"address {address}: no Ray cluster answers ({reason}); start one with ray start --head"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
