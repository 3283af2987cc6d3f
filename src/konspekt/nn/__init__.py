"""Building blocks as modules: activations, initialisation, normalisation, dropout, convolution, pooling, logic.

The builders of single blocks (`relu`, `he`, `batch_norm`, `dropout`, `max_pool`, ...) are in the modules `activations`, `init`,
`norm`, `dropout`, `convolution` and `pooling`, and in the registry under the kinds "activation", "init" and "layer".
"""

from konspekt.nn.activations import Arctan, LinearTanh, NoisyReLU, Softmax, activation
from konspekt.nn.convolution import Convolution, output_size, transposed_size
from konspekt.nn.init import initialise
from konspekt.nn.logic import LogicNetwork, logic_network
from konspekt.nn.norm import BatchRenorm, norm_layer
from konspekt.nn.pooling import GlobalPool, Pool

__all__ = [
    "Arctan",
    "BatchRenorm",
    "Convolution",
    "GlobalPool",
    "LinearTanh",
    "LogicNetwork",
    "NoisyReLU",
    "Pool",
    "Softmax",
    "activation",
    "initialise",
    "logic_network",
    "norm_layer",
    "output_size",
    "transposed_size",
]
