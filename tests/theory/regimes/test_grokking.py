"""Delayed generalisation: its delay, and what is refused."""

import numpy as np
import pytest

from widthwise.report import plot
from widthwise.theory.regimes import grokking


@pytest.fixture(scope="module")
def found():
    return grokking()


def test_the_delay_grows_with_alpha(found):
    assert found.delays[0] > 3.0
    assert np.all(np.diff(found.delays) > 0.5)


def test_the_tangent_model_fits_as_well_but_never_generalises(found):
    for one in found.courses:
        assert one.train[-1] < 1e-6
        assert one.twin.min() > 0.3 > one.level > one.test[-1]
    np.testing.assert_allclose(found.courses[0].twin, found.courses[1].twin, rtol=1e-9)


def test_it_prints_and_is_drawn(found):
    assert "never falls below" in str(found)
    drawn = plot(found)
    assert len(drawn.data) == 7
    assert "var(--" not in drawn.to_json()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_delay_grows_with_alpha_for_other_networks_and_data(seed):
    delays = grokking((0.05, 0.2), seed=seed).delays
    assert delays[1] > delays[0] > 1.5


@pytest.mark.slow
def test_a_start_too_lazy_never_generalises():
    found = grokking((3.0,))
    assert found.delays.tolist() == [np.inf]
    assert "inf" in str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alphas": ()}, "no alphas"),
        ({"alphas": (0.0,)}, "above 0"),
        ({"samples": 55}, "every quadratic function"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"curvature": np.nan}, "finite number"),
        ({"width": 0}, "above 0"),
    ],
)
def test_bad_input_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        grokking(**change)
