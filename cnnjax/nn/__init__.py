"""Layers: convolution, pooling, normalisation, dense ones, and those of sequences."""

from cnnjax.nn.conv import conv2d, conv_engine, current_conv_engine
from cnnjax.nn.conv_layer import Conv2D, grouped_conv2d
from cnnjax.nn.initializers import (
    glorot_uniform,
    he_truncated_fan_out,
    he_uniform,
    lecun_uniform_depthwise,
    ones,
    uniform_fan_out,
    zeros,
)
from cnnjax.nn.kernels import KERNELS, apply_kernel
from cnnjax.nn.layers import (
    Activation,
    Add,
    Concatenate,
    Cropping2D,
    Dense,
    Dropout,
    Flatten,
    InputLayer,
    Multiply,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)
from cnnjax.nn.matrix import conv_as_matrix
from cnnjax.nn.norm import BatchNormalization, LayerNormalization
from cnnjax.nn.pool import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    average_pool,
    max_pool,
)
from cnnjax.nn.recurrent import GRU, LSTM
from cnnjax.nn.residual import LayerScale, StochasticDepth
from cnnjax.nn.separable import DepthwiseConv2D, SeparableConv2D, depthwise_conv2d
from cnnjax.nn.sequence import (
    Conv1D,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LastStep,
    MaxPooling1D,
    Slice1D,
    ZeroPadding1D,
    conv1d,
)

__all__ = [
    "GRU",
    "KERNELS",
    "LSTM",
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "InputLayer",
    "LastStep",
    "LayerNormalization",
    "LayerScale",
    "MaxPooling1D",
    "MaxPooling2D",
    "Multiply",
    "Reshape",
    "SeparableConv2D",
    "Slice1D",
    "StochasticDepth",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "apply_kernel",
    "average_pool",
    "conv1d",
    "conv2d",
    "conv_as_matrix",
    "conv_engine",
    "current_conv_engine",
    "depthwise_conv2d",
    "glorot_uniform",
    "grouped_conv2d",
    "he_truncated_fan_out",
    "he_uniform",
    "lecun_uniform_depthwise",
    "max_pool",
    "ones",
    "uniform_fan_out",
    "zeros",
]
