"""Layers: convolution engines, pooling, dense layers, initialisers."""

from cnnjax.nn.conv import Conv2D, conv2d, conv_engine, current_conv_engine
from cnnjax.nn.initializers import glorot_uniform, zeros
from cnnjax.nn.layers import Activation, Dense, Dropout, Flatten
from cnnjax.nn.pool import AveragePooling2D, MaxPooling2D, average_pool, max_pool

__all__ = [
    "Activation",
    "AveragePooling2D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "MaxPooling2D",
    "average_pool",
    "conv2d",
    "conv_engine",
    "current_conv_engine",
    "glorot_uniform",
    "max_pool",
    "zeros",
]
