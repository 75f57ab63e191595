"""Layers: convolution engines, depthwise and separable convolution, pooling, normalisation."""

from cnnjax.nn.conv import Conv2D, conv2d, conv_engine, current_conv_engine
from cnnjax.nn.initializers import glorot_uniform, ones, zeros
from cnnjax.nn.kernels import KERNELS, apply_kernel
from cnnjax.nn.layers import (
    Activation,
    Add,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    InputLayer,
    Reshape,
    ZeroPadding2D,
)
from cnnjax.nn.matrix import conv_as_matrix
from cnnjax.nn.norm import BatchNormalization
from cnnjax.nn.pool import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    average_pool,
    max_pool,
)
from cnnjax.nn.separable import DepthwiseConv2D, SeparableConv2D, depthwise_conv2d

__all__ = [
    "KERNELS",
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "InputLayer",
    "MaxPooling2D",
    "Reshape",
    "SeparableConv2D",
    "ZeroPadding2D",
    "apply_kernel",
    "average_pool",
    "conv2d",
    "conv_as_matrix",
    "conv_engine",
    "current_conv_engine",
    "depthwise_conv2d",
    "glorot_uniform",
    "max_pool",
    "ones",
    "zeros",
]
