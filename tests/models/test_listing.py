"""What `cnnjax list` says of the models."""

import pytest
from families import representatives

from cnnjax.models import BUILDERS
from cnnjax.models.listing import listing, sizes
from cnnjax.models.sizes import SIZES


@pytest.mark.parametrize(
    "name", ["mlp", "resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in BUILDERS)]
)
def test_the_sizes_are_those_of_the_layer_table(name):
    assert SIZES[name] == sizes(name)


@pytest.mark.thorough
def test_every_model_has_its_size():
    assert set(SIZES) == set(BUILDERS), "python -m experiments.model_sizes writes them anew"


@pytest.mark.thorough  # what has no size yet takes its time
def test_models_of_imagenet_come_first_and_name_their_weights():
    head, *rows = listing()
    names = [row[0] for row in rows]
    assert sorted(names) == sorted(BUILDERS)
    published = [row for row in rows if row[4]]
    assert rows[: len(published)] == published
    assert {row[0] for row in published} >= set(representatives()) & {"vgg16", "resnet18"}
    assert head[2:4] == ("parameters", "FLOPs")
