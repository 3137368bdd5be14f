"""Training of the paper's models: data made on the device, the loop, and a state that resumes exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from r3dad import checkpoint, philox
from r3dad.config import PaperConfig, to_json
from r3dad.diffusion import Schedule, displacement_loss, shape_loss
from r3dad.errors import InputError
from r3dad.model import Autoencoder
from r3dad.score import normalisation
from r3dad.synth.patch_gen import patch_gen

_NOISE, _PICK = 2, 3  # Philox streams; 0 is the reverse process's, 1 Patch-Gen's
_SAVE_EVERY, _SHOW_EVERY = 30.0, 0.2  # seconds
Progress = Callable[[float, str], None]
Watch = Callable[[int, Autoencoder], None]


class Batches:
    """Clouds of N points drawn from the good scans: a uniform sample without replacement is a window of a random order.

    Args:
        scans: good scans [M_i, 3] float64, in their own units.
    """

    def __init__(self, scans: Sequence[Tensor], config: PaperConfig, device: torch.device):
        self.config = config
        self.device = device
        clouds = []
        for i, scan in enumerate(scans):
            cloud = normalisation(scan).apply(scan)
            order = torch.randperm(len(cloud), generator=torch.Generator().manual_seed(config.seed + i))
            repeats = -(-config.points // len(cloud))  # a scan of fewer than N points is repeated to fill the batch
            clouds.append(cloud[order].repeat(repeats, 1))
        self.points = torch.cat(clouds).to(device)
        lengths = torch.tensor([len(cloud) for cloud in clouds])
        self.lengths, self.firsts = lengths.to(device), (lengths.cumsum(0) - lengths).to(device)

    def draw(self, iteration: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """good, defective, noise [B, N, 3] and t [B] of an iteration ([] int64, on the device); a function of seed and iteration alone.

        Nothing is read on the host, so a CUDA graph can hold it.
        """
        c = self.config
        seeds = (c.seed << 32) + iteration * c.batch + torch.arange(c.batch, device=self.device)
        pick = philox.uniform(seeds, 1, 0, _PICK)[:, 0].double()
        which = (pick[:, 0] * len(self.lengths)).long().clamp(max=len(self.lengths) - 1)
        length = self.lengths[which]
        start = (pick[:, 1] * length).long() % length
        window = (start[:, None] + torch.arange(c.points, device=self.device)) % length[:, None]
        points = self.points[self.firsts[which][:, None] + window]
        ratio = c.patch_ratio if c.model == "D" else 1 / c.points
        scale = c.patch_scale if c.model == "D" else 0.0  # the other models see good clouds, rotated
        good, defective, _ = patch_gen(points, seeds, ratio, scale, c.patch_draw)
        t = (pick[:, 2] * c.steps).ceil().long().clamp(1, c.steps)
        return good, defective, philox.normal(seeds, c.points, 0, _NOISE), t


def train(
    scans: Sequence[Tensor],
    config: PaperConfig,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    resume: Path | None = None,
    watch: Watch | None = None,
    every: int = 1000,
) -> Autoencoder:
    """Fit the paper's model to good scans (Alg. 2, or eq. 5 for models A and B); the last state is kept, nothing is selected.

    Args:
        scans: good scans [M_i, 3] float64.
        progress: called now and then with the share done and the loss in words.
        resume: where the training state is kept, from time to time and on interruption, and continued from if it is there.
        watch: called with the iterations done and the model, ready to evaluate, after each ``every`` iterations and at the end; on
            resuming maybe again with a state that it has seen. It changes nothing in the training.

    Raises:
        InputError: ``resume`` holds the state of a training with other settings.
    """
    device = torch.device(device)
    torch.manual_seed(config.seed)  # the initial weights are the only draw that is not keyed by Philox
    model = Autoencoder(config.latent, config.widths, config.conditioned).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, capturable=device.type == "cuda")
    schedule = Schedule(config.steps, config.beta_first, config.beta_last, config.flexibility)
    batches = Batches(scans, config, device)
    done = _restore(resume, model, optimiser, config) if resume and resume.exists() else 0
    model.train()
    iteration = torch.tensor(done, device=device)

    def step() -> Tensor:
        loss = _step(model, optimiser, schedule, batches, config, iteration)
        iteration.add_(1)
        return loss

    run = step
    if device.type == "cuda":
        torch.cuda.set_device(iteration.device)  # streams, graphs and kernels are the current device's
        run = _graphed(step)
    saved = shown = time.monotonic()
    try:
        while True:
            if watch and done and (done % every == 0 or done == config.iterations):
                watch(done, model.eval())
                model.train()
            if done == config.iterations:
                break
            loss = run()
            done += 1
            if progress and (time.monotonic() - shown > _SHOW_EVERY or done == config.iterations):
                progress(done / config.iterations, f"loss {float(loss):.4f}")  # reading the loss waits for the device
                shown = time.monotonic()
            if resume and time.monotonic() - saved > _SAVE_EVERY:
                _keep(resume, model, optimiser, config, done)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if resume:
            _keep(resume, model, optimiser, config, done)
        raise
    if resume:
        resume.unlink(missing_ok=True)
    return model.eval()


def _step(model, optimiser, schedule: Schedule, batches: Batches, config: PaperConfig, iteration: Tensor) -> Tensor:
    good, defective, noise, t = batches.draw(iteration)
    low = config.precision != "float32"
    with torch.autocast(good.device.type, torch.bfloat16, enabled=low):
        latent = model.encode(defective)

        def predict(x: Tensor, betas: Tensor) -> Tensor:
            return model.decoder(x, betas, latent)

        if config.displaces:
            loss = displacement_loss(schedule, predict, good, defective, noise, t)
        else:
            loss = shape_loss(schedule, predict, good, noise, t)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    optimiser.step()
    return loss.detach()


def _graphed(step: Callable[[], Tensor], eager: int = 3) -> Callable[[], Tensor]:
    """The step as one CUDA graph: its several hundred small kernels cost one launch. Each call is one step and overwrites the last loss.

    The first steps run eagerly on a stream of their own, as capturing asks for: there kernels are compiled and the optimiser's state is
    made.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    calls, loss = 0, None

    def run() -> Tensor:
        nonlocal calls, loss
        calls += 1
        if calls <= eager:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                result = step()
            torch.cuda.current_stream().wait_stream(stream)
            return result
        if loss is None:
            with torch.cuda.graph(graph):  # records, runs nothing
                loss = step()
        graph.replay()
        return loss

    return run


def _keep(path: Path, model, optimiser, config: PaperConfig, done: int) -> None:
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{i}.{name}": t for name, t in state.items()})
    checkpoint.save(path, "training", tensors, {"config": to_json(config), "iteration": done})


def _restore(path: Path, model, optimiser, config: PaperConfig) -> int:
    tensors, settings = checkpoint.load(path, "training")
    if settings["config"] != to_json(config):
        raise InputError(f"{path}: state of a training with other settings; delete it or give the same settings")
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(settings["iteration"])
