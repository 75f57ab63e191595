"""Classifiers of texts: a 1-D convolutional net, and a recurrent one of like size."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.registry import register
from cnnjax.nn import GRU, LSTM, Conv1D, Dense, Embedding, GlobalMaxPooling1D, MaxPooling1D

CELLS: dict[str, type[GRU] | type[LSTM]] = {"gru": GRU, "lstm": LSTM}


# A step of conv1 sees 7 words, one of conv2 41: too many to say which of them it was.
@register(
    "imdb_conv1d",
    (500,),
    min_size=41,
    num_classes=1,
    preprocessing="tokens",
    cam_layer="conv1",
    head=("logits",),
)
class ImdbConv1D(linen.Module):
    """Embedding, two 1-D convolutions of width 7 with pooling between, global max pooling.

    Args:
        num_classes: size of the output; 1 for a single logit of two classes.
        vocabulary_size: how many numbers of words there are, >= 1.
        embedding_size: of the vector of a word, >= 1.
    """

    num_classes: int = 1
    vocabulary_size: int = 10_000
    embedding_size: int = 128

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Int32 [N, T] -> [N, num_classes]."""
        x = Embedding(self.vocabulary_size, self.embedding_size, name="embedding")(inputs)
        x = Conv1D(32, 7, activation=relu, name="conv1")(x)
        x = MaxPooling1D(5, name="pool1")(x)
        x = Conv1D(32, 7, activation=relu, name="conv2")(x)
        x = GlobalMaxPooling1D(name="global_max_pooling")(x)
        return Dense(self.num_classes, name="logits")(x)


@register(
    "imdb_gru",
    (500,),
    num_classes=1,
    preprocessing="tokens",
    head=("logits",),
    choices=(("cell", tuple(CELLS)),),
)
class ImdbGRU(linen.Module):
    """Embedding and a recurrent layer, whose last state makes the logit.

    Args:
        num_classes, vocabulary_size, embedding_size: as in `ImdbConv1D`.
        cell: "gru" or "lstm", also the layer's name.
        units: size of the state, >= 1. With 64 the GRU has 37,248 parameters, the convolutions of
            `ImdbConv1D` 35,904.
    """

    num_classes: int = 1
    vocabulary_size: int = 10_000
    embedding_size: int = 128
    cell: str = "gru"
    units: int = 64

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Int32 [N, T] -> [N, num_classes]."""
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        x = Embedding(self.vocabulary_size, self.embedding_size, name="embedding")(inputs)
        x = CELLS[self.cell](self.units, name=self.cell)(x)
        return Dense(self.num_classes, name="logits")(x)
