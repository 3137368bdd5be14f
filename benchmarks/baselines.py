"""What a user would pick instead, as contenders; a library that is not installed is named with that reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from r3dad import backends
from r3dad.model import Autoencoder, PointNetEncoder, PointwiseNet

Maker = Callable[[], Callable[[], Any]]


def available(makers: dict[str, Maker]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Contenders that can be made here, and why the others cannot."""
    found, absent = {}, {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            absent[name] = f"{name}: {error}"
    return found, absent


def op_backends(op: str, *args: Any) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Every row of the backend table that can take the arguments."""
    found, absent = {}, {}
    for backend in backends.TABLE[op]:
        with backends.use_backend(backend):
            reason = backends.why_not(op, backend, *args)
            if reason is None:
                function = backends.choose(op, *args)[1]
                found[backend] = lambda function=function: function(*args)
            else:
                absent[backend] = reason
    return found, absent


# ---- neighbours: cloud [N, 3] -> distances [N, k] squared, indices [N, k] ---------------------------------------------------------------


def neighbour_libraries(cloud: Tensor, k: int) -> dict[str, Maker]:
    points = cloud.numpy()

    def nanoflann():
        import pynanoflann

        def run():
            tree = pynanoflann.KDTree(n_neighbors=k, leaf_size=32)
            tree.fit(points)
            distances, index = tree.kneighbors(points)
            return distances**2, index

        return run

    def scipy():
        from scipy.spatial import cKDTree

        def run():
            distances, index = cKDTree(points).query(points, k)
            return distances**2, index

        return run

    def sklearn():
        from sklearn.neighbors import NearestNeighbors

        def run():
            distances, index = (
                NearestNeighbors(n_neighbors=k, algorithm="kd_tree", n_jobs=1).fit(points).kneighbors(points)
            )
            return distances**2, index

        return run

    def faiss_flat():
        import faiss

        faiss.omp_set_num_threads(1)

        def run():
            index = faiss.IndexFlatL2(3)
            index.add(points)
            return index.search(points, k)

        return run

    def torch_topk():
        return lambda: tuple(torch.cdist(cloud, cloud).square().topk(k, largest=False))

    return {
        "pynanoflann": nanoflann,
        "scipy cKDTree": scipy,
        "scikit-learn": sklearn,
        "faiss-cpu": faiss_flat,
        "torch cdist + topk": torch_topk,
    }


def faiss_nearest(query: Tensor, reference: Tensor) -> Maker:
    """[N, D] rows -> squared distances and indices [N, 1]."""

    def make():
        import faiss

        faiss.omp_set_num_threads(1)

        def run():
            index = faiss.IndexFlatL2(reference.shape[1])
            index.add(reference.numpy())
            return index.search(query.numpy(), 1)

        return run

    return make


# ---- the public code's path, written plainly -------------------------------------------------------------------------------------------


def plain_encoder(encoder: PointNetEncoder, points: Tensor) -> Tensor:
    x = points.flatten(0, 1)
    for i, (layer, norm) in enumerate(zip(encoder.pointwise, encoder.pointwise_norm)):
        x = norm(layer(x))
        x = x.relu() if i < 3 else x
    x = x.unflatten(0, points.shape[:2]).max(1).values
    for layer, norm in zip(encoder.head[:-1], encoder.head_norm):
        x = norm(layer(x)).relu()
    return encoder.head[-1](x)


class PlainDecoder(nn.Module):
    """PointwiseNet as the public code writes it: one linear layer, gate and bias per layer, the context computed at every step."""

    def __init__(self, net: PointwiseNet):
        super().__init__()
        self.layers = net.layers

    def forward(self, x: Tensor, beta: Tensor, latent: Tensor) -> Tensor:
        time = torch.stack([beta, beta.sin(), beta.cos()], -1)
        context = torch.cat([time, latent], -1)[:, None, :]
        h = x
        for i, layer in enumerate(self.layers):
            h = layer.layer(h) * torch.sigmoid(layer.hyper_gate(context)) + layer.hyper_bias(context)
            h = nn.functional.leaky_relu(h, 0.01) if i < len(self.layers) - 1 else h
        return x + h


class PlainAutoencoder(nn.Module):
    """The paper's model for a training step in PyTorch eager."""

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.encoder, self.decoder = model.encoder, PlainDecoder(model.decoder)

    def encode(self, points: Tensor) -> Tensor:
        return plain_encoder(self.encoder, points)


def plain_loop(net: nn.Module, start: Tensor, betas: Tensor, coefficients: Tensor, latent: Tensor) -> Tensor:
    """The reverse process step by step; noise from torch's generator."""
    x = start
    for beta, (a, b, sigma) in zip(betas, coefficients.tolist()):
        x = a * x + b * net(x, beta[None].to(x), latent)
        if sigma != 0:
            x = x + sigma * torch.randn_like(x)
    return x


def public_score(points: Tensor, rebuilt: Tensor, k: int) -> np.ndarray:
    """Clusters by all distances and a sort, the nearest by faiss: [N]."""
    rows = [c[torch.cdist(c, c).topk(k, largest=False).indices].flatten(1) for c in (points, rebuilt)]
    return faiss_nearest(rows[0], rows[1])()()[0][:, 0]
