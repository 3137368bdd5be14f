"""The operations. Each file holds the definition in plain PyTorch, the ``torch.library`` operator, its fake and its backward."""

from r3dad.ops.cluster_distance import cluster_distance
from r3dad.ops.concat_squash import concat_squash
from r3dad.ops.encode import encode
from r3dad.ops.knn import knn
from r3dad.ops.messages import messages
from r3dad.ops.neighbour_mean import neighbour_mean
from r3dad.ops.reverse_diffusion import reverse_diffusion

__all__ = [
    "cluster_distance",
    "concat_squash",
    "encode",
    "knn",
    "messages",
    "neighbour_mean",
    "reverse_diffusion",
]
