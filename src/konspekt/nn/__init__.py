"""Building blocks as modules: activations, initialisation, normalisation, dropout.

The builders of single blocks (`relu`, `he`, `batch_norm`, `dropout`, ...) are in the modules `activations`, `init`, `norm` and
`dropout`, and in the registry under the kinds "activation", "init" and "layer".
"""

from konspekt.nn.activations import Arctan, LinearTanh, NoisyReLU, Softmax, activation
from konspekt.nn.init import initialise
from konspekt.nn.norm import BatchRenorm, norm_layer

__all__ = [
    "Arctan",
    "BatchRenorm",
    "LinearTanh",
    "NoisyReLU",
    "Softmax",
    "activation",
    "initialise",
    "norm_layer",
]
