"""Subsets: their images are those of the whole set, their factors those that are free."""

import functools

import jax
import numpy as np
import pytest
import tiny

from deft_jax import data
from deft_jax.data import factors, sprites
from deft_jax.data.source import Source
from deft_jax.data.subset import subset


@pytest.fixture(scope="module", autouse=True)
def one_table():
    """All parts of dSprites share one table of edges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sprites, "_edge_tables", functools.cache(sprites._edge_tables))
        yield


def rendered(source, factors_NxF):
    # Not jitted: all sources of a shape then share what is compiled.
    return np.asarray(source.render(source.arrays, np.asarray(factors_NxF, np.int32), jax.random.key(0)))


def all_factors(source):
    return np.asarray(factors.from_index(np.arange(source.num_images), source.factor_sizes))


def test_a_fixed_factor_leaves_the_list_and_images_are_those_of_the_whole_set():
    whole = data.get("dsprites")
    hearts = data.get("dsprites(shape=heart)")
    assert hearts.factor_names == ("scale", "orientation", "posX", "posY")
    assert hearts.num_images == whole.num_images // 3
    drawn = factors.draw(0, 50, hearts.factor_sizes)
    same = np.concatenate([np.full((50, 1), 2), drawn], axis=1)
    np.testing.assert_array_equal(rendered(hearts, drawn), rendered(whole, same))


@pytest.mark.parametrize(
    ("only", "values"),
    [({"posX": (3, 1)}, [3, 1]), ({"posX": "1:4"}, [1, 2, 3]), ({"posX": "::2"}, [0, 2]), ({"posX": [2]}, [2])],
)
def test_some_values_of_a_factor_are_renumbered_in_their_order(only, values):
    whole = tiny.squares()
    part = subset(whole, only)
    assert part.factor_names == whole.factor_names
    assert part.factor_sizes == (2, len(values), 4)
    grid = all_factors(part)
    same = grid.copy()
    same[:, 1] = np.array(values)[grid[:, 1]]
    np.testing.assert_array_equal(rendered(part, grid), rendered(whole, same))


def test_equivalent_notations_give_the_same_subset():
    ways = [
        data.get("dsprites( shape = heart , orientation=0:40:4)"),
        data.get("dsprites", only={"shape": "heart", "orientation": "0:40:4"}),
        data.get("dsprites", only={"shape": 2, "orientation": range(0, 40, 4)}),
        data.get("dsprites(shape=2)", only={"orientation": list(range(0, 40, 4))}),
    ]
    drawn = factors.draw(0, 50, ways[0].factor_sizes)
    for way in ways[1:]:
        assert (way.factor_names, way.factor_sizes) == (ways[0].factor_names, ways[0].factor_sizes)
        np.testing.assert_array_equal(rendered(way, drawn), rendered(ways[0], drawn))


def test_a_subset_of_a_subset():
    part = subset(subset(tiny.squares(), {"size": 1}), {"posY": "1:3"})
    assert (part.factor_names, part.factor_sizes) == (("posX", "posY"), (4, 2))
    np.testing.assert_array_equal(rendered(part, [[3, 1]]), rendered(tiny.squares(), [[1, 3, 2]]))


@pytest.mark.parametrize(("only", "message"), [
    ({"hue": 1}, r"no factor 'hue' to hold; known: size, posX, posY"),
    ({"posX": 4}, r"posX has no value 4; allowed: 0 to 3"),
    ({"posX": -1}, r"posX has no value -1"),
    ({"posX": 1.5}, r"posX has no value 1\.5"),
    ({"posX": True}, r"posX has no value True"),
    ({"posX": "heart"}, r"posX has no value 'heart'"),
    ({"posX": (1, 1)}, r"posX must be given at least one value, each once"),
    ({"posX": "3:1"}, r"posX must be given at least one value"),
    ({"posX": "1:x"}, r"posX = '1:x' is no range"),
    ({"size": 0, "posX": 0, "posY": 0}, r"all factors are held"),
])
def test_unknown_factors_and_values_are_refused(only, message):
    with pytest.raises(ValueError, match=message):
        subset(tiny.squares(), only)


@pytest.mark.parametrize("name", ["dsprites(shape", "dsprites(shape)", "dsprites(=2)", "dsprites)shape=1("])
def test_a_name_that_cannot_be_read_is_refused(name):
    with pytest.raises(ValueError, match=r"cannot read|unknown data set"):
        data.get(name)


def test_the_words_for_shapes_are_known():
    with pytest.raises(ValueError, match=r"shape has no value 'star'; allowed: 0 to 2, or square, ellipse, heart"):
        data.get("dsprites(shape=star)")


def test_a_list_of_images_has_no_subset():
    listed = Source(("image",), (4,), (16, 16, 1), "bernoulli", (), None, ("size",), np.zeros((4, 1), np.int32))
    with pytest.raises(ValueError, match="list of images"):
        subset(listed, {"image": 0})
