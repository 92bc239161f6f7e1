"""Whether limit kernels are positive definite: the theorem, its exceptions, and the amounts."""

import jax.numpy as jnp
import numpy as np
import pytest

from widthwise.activations import activation, monomial
from widthwise.claims import Status, check
from widthwise.theory.concentration import align, positive_definite
from widthwise.theory.concentration.definiteness import _too_many
from widthwise.theory.concentration.hermite_claims import CLAIMS, Inputs, on_circle, opposite
from widthwise.theory.concentration.structure import structure

THREE = opposite().X
HEXAGON = on_circle(np.pi / 3 * np.arange(6)).X
CLAIM = {claim.id: claim for claim in CLAIMS}


def shifted(z):
    return jnp.tanh(z + 0.5)


def test_odd_activations_are_singular_on_opposite_inputs():
    found = positive_definite("tanh", THREE)
    assert found.definite is False
    assert found.reasons == ("inputs 0 and 1 are opposite and tanh is odd",)
    assert found.aligned.antipodal == ((0, 1),)
    assert abs(found.smallest.value) <= found.smallest.error
    assert found.certified == 0.0


def test_other_activations_are_not():
    """The reference for the rectifier, 0.27306, is from a quadrature across the kink; exact is this."""
    relu, other = positive_definite("relu", THREE), positive_definite(activation(shifted, name="shifted"), THREE)
    assert relu.definite and other.definite
    assert relu.smallest.value == pytest.approx(0.5 - 1.0 / (np.sqrt(2.0) * np.pi), abs=1e-14)
    assert other.smallest.value == pytest.approx(0.15922, abs=0.5e-5)
    assert 0.2748 < relu.certified < relu.smallest.value
    assert other.certified == pytest.approx(float(other.smallest.value), abs=1e-10)
    assert "neither the even nor the odd part" in other.reasons[0]


def test_the_reference_on_a_circle():
    relu = positive_definite("relu", on_circle().X)
    # The reference ends in 86; the closed form gives 85.
    assert relu.smallest.value == pytest.approx(0.00605986, abs=1e-8)
    # With the rest of the series: above 0.00310885 and 0.00502981 of 2000 terms by 5e-7.
    assert relu.gershgorin == pytest.approx(0.00310885 + 4.7e-7, abs=1e-8)
    assert relu.termwise == pytest.approx(0.00502981 + 4.7e-7, abs=1e-8)
    assert relu.truncated <= relu.smallest.value + relu.smallest.error
    tanh = positive_definite("tanh", on_circle().X)
    assert tanh.smallest.value == pytest.approx(0.00209294, abs=0.5e-8)


@pytest.mark.parametrize(("count", "least"), [(3, 0.1131), (4, 0.0)])
def test_a_polynomial_is_definite_on_few_inputs_only(count, least):
    found = positive_definite(monomial(2), on_circle(0.5 * np.arange(count)).X)
    assert found.definite == (least > 0)
    assert found.smallest.value == pytest.approx(least, abs=0.5e-4)
    if not least:
        told = "monomial(2) is a polynomial of degree 2, which spans only 3 functions on 4 inputs"
        assert found.reasons == (told,)


@pytest.mark.slow
def test_a_polynomial_part_is_singular_on_many_opposite_pairs():
    found = positive_definite("relu", HEXAGON)
    assert found.definite is False
    assert "the odd part of relu is a polynomial of degree 1" in found.reasons[0]
    assert "3 pairs of opposite inputs" in found.reasons[0]
    assert abs(found.smallest.value) <= found.smallest.error
    assert positive_definite("relu", HEXAGON[[0, 1, 3, 4]]).definite is True


@pytest.mark.parametrize(
    ("name", "X", "kernel", "reason"),
    [
        ("relu", [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], "readout", "inputs 0 and 2 are equal"),
        (
            "relu",
            [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]],
            "readout",
            "inputs 0 and 2 are parallel and relu is homogeneous",
        ),
        ("abs", [[1.0, 0.0], [-2.0, 0.0]], "readout", "inputs 0 and 1 are opposite, and abs is homogeneous and even"),
        ("relu", [[1.0, 0.0], [0.0, 0.0]], "readout", "input 1 is zero, where the kernel vanishes"),
        ("sigmoid", [[0.0, 0.0], [0.0, 0.0]], "readout", "inputs 0, 1 are zero and so equal"),
        ("sigmoid", [[1.0, 0.0], [0.0, 0.0]], "hidden", "input 1 is zero, where the kernel vanishes"),
        ("sigmoid", THREE, "hidden", "inputs 0 and 1 are opposite and sigmoid is odd but for a constant"),
        ("sigmoid", [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], "readout", "1 pair of opposite inputs and zero"),
        ("sign", THREE, "hidden", "the slope of sign is zero, and so is the kernel"),
        ("identity", THREE, "hidden", "identity is a polynomial of degree 1, which spans only 2 functions"),
    ],
)
def test_what_makes_a_kernel_singular(name, X, kernel, reason):
    found = positive_definite(name, X, kernel=kernel)
    assert found.definite is False
    assert any(reason in told for told in found.reasons)
    assert abs(found.smallest.value) <= found.smallest.error
    assert found.certified == 0.0
    assert str(found).startswith("singular: ")


@pytest.mark.parametrize("kernel", ["readout", "hidden"])
def test_the_theorem_says_so_where_no_digit_is_left(kernel):
    found = positive_definite("tanh", on_circle((0.0, 1e-9)).X, kernel=kernel)
    assert found.definite is True
    assert found.reasons == (
        "no two inputs lie on one line and tanh is not a polynomial",
        "the series certifies no amount",
    )


def test_some_are_not_decided():
    found = positive_definite("tanh", [[1.0, 0.0], [1.0 + 1e-9, 0.0]])
    assert found.definite is None
    assert found.reasons[0].startswith("no theorem covers inputs like these")
    assert str(found).startswith("not decided: ")
    assert positive_definite("tanh", [[1.0, 0.0], [2.0, 0.0]]).definite is True


@pytest.mark.slow
def test_the_verdict_agrees_with_the_eigenvalue_at_random():
    rng = np.random.default_rng(4)
    for _ in range(15):
        X = rng.choice([-1.0, 0.0, 1.0, 2.0], size=(4, 2))
        for name in ("relu", "abs"):
            found = positive_definite(name, X, kernel="hidden")
            above = found.smallest.value > found.smallest.error
            assert found.definite is None or found.definite or not above, (name, X, str(found))
            assert found.definite is not True or above or found.certified == 0.0, (name, X, str(found))


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], np.zeros((0, 2)), np.zeros(3)])
def test_inputs_are_rows_of_finite_numbers(bad):
    with pytest.raises(ValueError, match="Inputs"):
        positive_definite("relu", bad)


def test_other_kernels_and_activations_are_refused():
    with pytest.raises(ValueError, match="one by one"):
        positive_definite("relu", THREE, kernel="both")
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        positive_definite("rel", THREE)


def test_pairs_on_one_line_are_seen_to_rounding():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 7))
    X = np.concatenate([x, -x[:1] / 3.0 * 3.0, 0.1 * x[1:2], -7.0 * x[2:]])
    found = align(X)
    assert (found.antipodal, found.parallel, found.opposite) == (((0, 3),), ((1, 4),), ((2, 5),))
    assert not found.duplicate and not found.zero and not found.equal_norms
    assert align(np.array([[1.0, 0.0], [1.0, 1e-10]])).duplicate == ()


@pytest.mark.parametrize(
    ("claim", "setup", "reason"),
    [
        ("LAZY-38", Inputs(2.0 * THREE, activation("tanh")), "because their norms are not 1"),
        ("LAZY-38d", on_circle(name="tanh"), "no two inputs are opposite"),
        ("LAZY-38d", opposite("relu"), "relu is neither odd nor even"),
        ("LAZY-38e", on_circle(), "relu is no polynomial"),
        ("LAZY-38e", Inputs(THREE, monomial(2), 9), "because there are 3 inputs"),
    ],
)
def test_claims_say_why_they_do_not_apply(claim, setup, reason):
    verdict = check(CLAIM[claim], setup)
    assert verdict.status is Status.NOT_APPLICABLE
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize("name", ["tanh", "abs", "cos"])
def test_parity_and_opposite_inputs_make_every_width_singular(name):
    assert check(CLAIM["LAZY-38d"], opposite(name)).status is Status.HOLDS


@pytest.mark.slow
def test_long_inputs_are_taken_too():
    found = positive_definite("tanh", 10 * np.array([[1.0, 0.0], [1.0, 1e-3]]))
    assert found.definite
    assert repr(found).startswith("Definiteness(True, smallest eigenvalue ")
    assert found.smallest.error > 0


def test_opposite_inputs_of_two_norms_count_for_homogeneous_activations():
    X = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.6, 0.8], [-1.8, -2.4]])
    W = np.random.default_rng(0).normal(size=(1000, 2))
    assert np.linalg.matrix_rank(np.maximum(X @ W.T, 0.0)) == 5

    def reasons(rows):
        return _too_many(rows, "relu", structure(activation("relu")), align(rows))

    assert ["on 3 pairs of opposite inputs" in reason for reason in reasons(X)] == [True]
    assert reasons(X[:4]) == reasons(X[[0, 1, 0, 1]]) == []
