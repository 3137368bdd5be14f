"""The paper's networks: PointNet encoder and concat-squash decoder (PointwiseNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from r3dad import ops


class PointNetEncoder(nn.Module):
    """Pointwise 3-128-128-256-512 with batch norms, the maximum over points, then 512-256-128-latent (the paper's encoder).

    Batch norm after each pointwise layer, ReLU after the first three; batch norm and ReLU after the first two of the rest.
    """

    def __init__(self, latent: int = 256):
        super().__init__()
        widths = (3, 128, 128, 256, 512)
        self.pointwise = nn.ModuleList(nn.Linear(k, m) for k, m in zip(widths, widths[1:]))
        self.pointwise_norm = nn.ModuleList(nn.BatchNorm1d(m) for m in widths[1:])
        head = (512, 256, 128, latent)
        self.head = nn.ModuleList(nn.Linear(k, m) for k, m in zip(head, head[1:]))
        self.head_norm = nn.ModuleList(nn.BatchNorm1d(m) for m in head[1:-1])

    def forward(self, points: Tensor) -> Tensor:
        """points [B, N, 3] -> latent [B, latent]; with batch statistics while training, by ``ops.encode`` otherwise."""
        if not self.training:
            return ops.encode(points, *self.folded())
        batch, count, _ = points.shape
        x = points.reshape(-1, 3)
        for i, (layer, norm) in enumerate(zip(self.pointwise, self.pointwise_norm)):
            x = norm(_linear(cast(nn.Linear, layer), x))
            x = x.relu() if i < len(self.pointwise) - 1 else x
        x = x.reshape(batch, count, -1).max(1).values  # amax shares the gradient among ties and is slow at it
        for layer, norm in zip(self.head[:-1], self.head_norm):
            x = norm(layer(x)).relu()
        return self.head[-1](x)

    def folded(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases with the batch norms' running statistics folded in, as ``ops.encode`` takes them."""
        weights, biases = [], []
        for layer, norm in zip([*self.pointwise, *self.head], [*self.pointwise_norm, *self.head_norm, None]):
            weight, bias = layer.weight, layer.bias
            if norm is not None:
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                weight, bias = weight * scale[:, None], (bias - norm.running_mean) * scale + norm.bias
            weights.append(weight)
            biases.append(bias)
        return weights, biases


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)`` of [N, K] while training; on the CPU the fused layer's products are faster than PyTorch's (docs/performance.md)."""
    if x.is_cuda:
        return layer(x)
    one, zero = x.new_ones(1, layer.out_features), x.new_zeros(1, layer.out_features)
    return ops.concat_squash(x[None], layer.weight, layer.bias, one, zero, 1.0)[0]


class ConcatSquash(nn.Module):
    """``(W x + b) * sigmoid(Wg e + bg) + Wb e`` with the context e constant over a cloud, and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, context: int, negative_slope: float):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.hyper_gate = nn.Linear(context, outputs)
        self.hyper_bias = nn.Linear(context, outputs, bias=False)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, N, K], context [B, E] -> [B, N, M]."""
        gate, shift = torch.sigmoid(self.hyper_gate(context)), self.hyper_bias(context)
        return ops.concat_squash(x, self.layer.weight, self.layer.bias, gate, shift, self.negative_slope)


class PointwiseNet(nn.Module):
    """The decoder eps_theta(x, beta, c): concat-squash layers with a residual, no layer looks across points (the paper's decoder).

    Args:
        latent: width of the latent c; 0 for none.
        widths: widths of the hidden layers.
        condition: F, width of a per-point condition that the first layer sees beside x; 0 for none.
    """

    NEGATIVE_SLOPE = 0.01

    def __init__(self, latent: int = 256, widths: Sequence[int] = (128, 256, 512, 256, 128), condition: int = 0):
        super().__init__()
        sizes = (3 + condition, *widths, 3)
        self.layers = nn.ModuleList(
            ConcatSquash(k, m, 3 + latent, self.NEGATIVE_SLOPE if i < len(widths) else 1.0)
            for i, (k, m) in enumerate(zip(sizes, sizes[1:]))
        )

    @staticmethod
    def time_features(betas: Tensor) -> Tensor:
        """[beta, sin beta, cos beta], [..., 3]."""
        return torch.stack([betas, betas.sin(), betas.cos()], -1)

    def forward(
        self, x: Tensor, betas: Tensor, latent: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """x [B, N, 3], betas [B], latent [B, C], condition [B, N, F] -> [B, N, 3]. Differentiable; for training."""
        context = self.time_features(betas)
        context = context if latent is None else torch.cat([context, latent], -1)
        h = x if condition is None else torch.cat([x, condition], -1)
        for layer in self.layers:
            h = layer(h, context)
        return x + h

    @torch.no_grad()
    def sample(
        self,
        start: Tensor,
        betas: Tensor,
        coefficients: Tensor,
        seeds: Tensor,
        latent: Tensor | None = None,
        condition: Tensor | None = None,
        precision: str = "float32",
    ) -> Tensor:
        """The reverse process as one operation, ``ops.reverse_diffusion``.

        Args:
            start: [B, N, 3] start noise. betas: [S]; coefficients: [S, 3], of a sampler of ``diffusion.Schedule``.
            seeds: [B] int64. latent: [B, C]. condition: [B, N, F].

        Returns:
            [B, N, 3].
        """
        time = self.time_features(betas).to(start)
        shape = start.new_zeros((start.shape[0], 0)) if latent is None else latent
        layers = [cast(ConcatSquash, layer) for layer in self.layers]
        gate = torch.cat([layer.hyper_gate.weight for layer in layers])
        shift = torch.cat([layer.hyper_bias.weight for layer in layers])

        def by_cloud(weight: Tensor) -> Tensor:  # a product of several rows rounds otherwise than that of one
            return torch.cat([row @ weight.T for row in shape.split(1)])

        return ops.reverse_diffusion(
            [layer.layer.weight for layer in layers],
            [layer.layer.bias for layer in layers],
            time @ gate[:, :3].T + torch.cat([layer.hyper_gate.bias for layer in layers]),
            by_cloud(gate[:, 3:]),
            time @ shift[:, :3].T,
            by_cloud(shift[:, 3:]),
            coefficients.to(start),
            start,
            seeds,
            condition,
            self.NEGATIVE_SLOPE,
            precision,
        )


class Autoencoder(nn.Module):
    """Encoder and decoder under one roof."""

    def __init__(self, latent: int = 256, widths: Sequence[int] = (128, 256, 512, 256, 128), conditioned: bool = True):
        super().__init__()
        self.encoder = PointNetEncoder(latent) if conditioned else None
        self.decoder = PointwiseNet(latent if conditioned else 0, widths)

    def encode(self, points: Tensor) -> Tensor | None:
        """points [B, N, 3] -> latent [B, C], or None for an unconditional model."""
        return None if self.encoder is None else self.encoder(points)
