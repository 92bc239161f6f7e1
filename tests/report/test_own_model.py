"""The report on a model that somebody brings: what it says of a small one, and what it refuses."""

import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from widthwise import entk, report
from widthwise.data import arrange, load_examples, split
from widthwise.measure import Method, hessian_sharpness, ntk_sharpness, train
from widthwise.networks import MLP
from widthwise.operators import jacobian_matrix
from widthwise.report.context import Context, Settings
from widthwise.report.experiment import trained
from widthwise.report.own import Own, is_model, plan
from widthwise.report.own_kernels import by_layer, movement, over_halves, own_kernel
from widthwise.report.prepared import arguments, prepared
from widthwise.report.progress import Silent

QUICK = Settings(quick=True, steps=4)


def blobs(classes=3, rows=45, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return rng.normal(size=(classes, 5))[y] + 0.7 * rng.normal(size=(rows, 5)), y


def net(inputs=5, outputs=3, key=0):
    return eqx.nn.MLP(inputs, outputs, 6, 1, activation=jnp.tanh, key=jr.key(key))


def context(model=None, data=None, shape=None, settings=QUICK) -> Context:
    made = (data or blobs(), None, model or net())
    return prepared(made, shape, settings, Silent())


class Images(eqx.Module):
    """A convolution, a mean over the image, and a layer."""

    conv: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, key):
        first, second = jr.split(key)
        self.conv, self.last = eqx.nn.Conv2d(1, 3, 3, key=first), eqx.nn.Linear(3, 2, key=second)

    def __call__(self, x):
        return self.last(jnp.mean(jnp.tanh(self.conv(jnp.moveaxis(x, -1, 0))), axis=(1, 2)))


class Tokens(eqx.Module):
    """The mean of embeddings, and a layer."""

    table: jnp.ndarray
    last: eqx.nn.Linear

    def __call__(self, x):
        assert jnp.issubdtype(x.dtype, jnp.integer)
        return self.last(jnp.mean(self.table[x], axis=0))


def tokens():
    return Tokens(jr.normal(jr.key(0), (7, 4)), eqx.nn.Linear(4, 2, key=jr.key(1)))


# What is a model and what is data


def test_models_are_told_from_data():
    f = net()
    assert all(map(is_model, (f, (f, {"w": 1.0}), MLP(), jax.tree_util.Partial(jnp.dot, jnp.ones(2)))))
    assert not any(map(is_model, ("digits", blobs(), np.ones(3), ([[1.0]], [1]), [1.0])))


def test_model_and_data_come_in_either_order():
    f, data = net(), blobs()
    assert arguments(f, data, "mlp") == (data, None, f)
    assert arguments(f, "table.csv", "price") == ("table.csv", "price", f)
    assert arguments(data, None, f) == (data, None, f)
    with pytest.raises(ValueError, match=r"a model without data.*report\(model, \(X, y\)\)"):
        arguments(f, None, "mlp")


# The model as a function of rows


def test_a_brought_model_gives_its_own_numbers_and_names():
    X, _ = blobs()
    f = net()
    own = context(f).own
    assert isinstance(own, Own)
    np.testing.assert_allclose(own.model(jnp.asarray(X[0])), f(jnp.asarray(X[0])), rtol=1e-12)
    assert (own.kind, own.framework, own.outputs, own.size, own.precision) == ("MLP", "Equinox", 3, 57, "float64")
    assert own.layers == ("layers.0", "layers.1")
    assert [part.shape for part in own.parts] == [(6, 5), (6,), (3, 6), (3,)]
    assert str(own) == "MLP (Equinox): 5 → 3, 57 parameters"


def test_images_and_tokens_keep_their_shape_and_type():
    rng, y = np.random.default_rng(0), np.arange(20) % 2
    images = rng.normal(size=(20, 6, 6, 1))
    model = Images(jr.key(0))
    own = context(model, (images, y)).own
    assert own is not None and (own.layout.shape, own.layout.integers) == ((6, 6, 1), False)
    np.testing.assert_allclose(own.model(jnp.asarray(images[3].ravel())), model(jnp.asarray(images[3])), rtol=1e-12)
    words = rng.integers(0, 7, size=(20, 5))
    made = context(tokens(), (words, y))
    assert made.own is not None and made.own.layout.integers
    expected = tokens()(jnp.asarray(words[3]))
    np.testing.assert_allclose(made.own.model(jnp.asarray(words[3], float)), expected, rtol=1e-12)
    np.testing.assert_array_equal(made.X_train, np.round(made.X_train))


def test_images_of_whole_numbers_are_given_as_real_ones_where_the_model_asks_for_them():
    rng = np.random.default_rng(0)
    made = context(Images(jr.key(0)), (rng.integers(0, 255, (20, 6, 6, 1)).astype(np.uint8), np.arange(20) % 2))
    assert made.own is not None and not made.own.layout.integers


# The numbers


@pytest.mark.slow
def test_the_kernel_and_its_layers_are_those_of_the_jacobian():
    made = context()
    found, X = made.once(own_kernel), made.X_train
    J = np.asarray(jacobian_matrix(made.model, jnp.asarray(X[found.rows])))
    expected = np.einsum("ikp,jkp->ij", J, J) / 3
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-10, atol=1e-12)
    assert found.cross.shape == (len(made.X_test), len(found.rows))
    parts = made.once(by_layer)
    probe = made.X_train[made.some_rows("probe", 32)]
    whole = entk(made.model, probe, outputs="trace")
    np.testing.assert_allclose(parts.start.sum(axis=0), whole, rtol=1e-10, atol=1e-12)
    assert parts.end is not None
    run = made.once(trained)
    drift = np.linalg.norm((parts.end - parts.start).sum(axis=0)) / np.linalg.norm(whole)
    np.testing.assert_allclose(drift, run.drift[-1], rtol=1e-8)


@pytest.mark.slow
def test_the_movement_of_layers_adds_up_to_the_distance():
    made = context()
    assert made.own is not None
    run, moved = made.once(trained), movement(made)
    sizes = [
        np.sqrt(sum(part.size * part.scale**2 for part in made.own.parts if part.layer == layer))
        for layer in made.own.layers
    ]
    np.testing.assert_allclose(np.linalg.norm(moved * np.array(sizes)), run.distance[-1], rtol=1e-10)


@pytest.mark.slow
def test_the_rate_is_half_the_smaller_of_two_stable_ones():
    made = context()
    X, T = jnp.asarray(made.X_train), jnp.asarray(made.T_train)
    tops = ntk_sharpness(made.model, X).value, hessian_sharpness(made.model, X, T).value
    np.testing.assert_allclose(made.learning_rate, 1.0 / max(tops), rtol=1e-6)


def test_large_models_are_looked_at_on_fewer_rows():
    own = context().own
    assert own is not None
    small = plan(own, QUICK, (1000, 200))
    assert (small.kernel, small.curvature, small.probe, small.records) == (200, 500, 32, 40)
    large = plan(
        Own(own.model, "big", "none", "float64", own.layout, 10, own.parts * 40_000, 1e9, 1e12), QUICK, (1000, 200)
    )
    assert large.kernel < 100 and large.curvature < 100 and large.probe < 32 and large.records < 40
    assert large.seconds > 100 * small.seconds


def test_the_jackknife_over_halves_is_the_error_of_a_mean():
    """Over 40 samples the mean squared error bar agrees with the variance of a mean, 1/n, within five of its errors."""
    rng = np.random.default_rng(1)
    squares = []
    for seed in range(40):
        x = rng.normal(size=200)
        squares.append(float(over_halves(lambda rows, x=x: float(x[rows].mean()), 200, seed) or np.nan) ** 2)
    assert abs(np.mean(squares) * 200 - 1.0) < 5 * np.std(squares) * 200 / np.sqrt(40)
    assert over_halves(lambda rows: 0.0, 7, 0) is None


def test_training_ends_when_it_is_told_to():
    """Asked after every 20 steps at most; the last moment recorded is where it ended."""
    X, y = blobs()
    asked = itertools.count()
    T = np.eye(3)[y]
    method = Method("gd", 0.1, 1000)
    run = train(net(), X, T, X, method, key=jr.key(0), records=3, stop=lambda: next(asked) == 2)
    assert run.diverged_at is None and 2 < run.steps[-1] <= 60
    assert len(run.losses) == run.steps[-1] and np.all(np.isfinite(run.losses))


# Data for models


def test_targets_follow_the_outputs():
    data, layout = load_examples(blobs(classes=2))
    parts = split(data)
    assert set(arrange(*parts, layout, 1).train.targets.ravel()) == {-1.0, 1.0}
    np.testing.assert_allclose(np.unique(arrange(*parts, layout, 2).train.targets), [-0.5, 0.5])
    more = arrange(*parts, layout, 4)
    assert more.classes == ("0", "1", "none (2)", "none (3)") and "4 outputs for 2 classes" in more.warnings[-1]


def test_classes_that_are_numbers_of_outputs_keep_them():
    X, y = blobs(classes=2)
    data, layout = load_examples((X, y + 2))
    found = arrange(*split(data), layout, 5)
    assert set(found.train.y) == {2, 3} and found.classes[2:4] == ("2", "3")
    assert set(np.argmax(found.train.targets, axis=1)) == {2, 3}


def test_tables_are_scaled_and_arrays_are_not():
    data, layout = load_examples("digits")
    train, test = split(data)
    scaled = arrange(train, test, layout, 10).train.X
    constant = np.ptp(train.X, axis=0) == 0
    assert scaled.shape[1] == 64 and constant.any() and np.all(scaled[:, constant] == 0)
    np.testing.assert_allclose(scaled[:, ~constant].std(axis=0), 1.0, rtol=1e-12)
    data, layout = load_examples("digits", shape=(8, 8, 1))
    whole = arrange(*split(data), layout, 10).train.X
    np.testing.assert_allclose([whole.mean(), whole.std()], [0.0, 1.0], atol=1e-12)
    X, y = blobs()
    data, layout = load_examples((X, y))
    np.testing.assert_array_equal(arrange(data, data, layout, 3).train.X, X)


def test_images_come_from_a_file(tmp_path):
    images = np.random.default_rng(0).normal(size=(12, 4, 4, 1))
    np.savez(tmp_path / "some.npz", X=images, y=np.arange(12) % 2)
    data, layout = load_examples(tmp_path / "some.npz")
    assert (data.name, layout.shape, len(data)) == ("some.npz", (4, 4, 1), 12)
    np.testing.assert_array_equal(data.X, images.reshape(12, -1))


# What is refused, before anything is written

X, Y = blobs()
REFUSED = {
    "inputs of another size": (lambda: net(inputs=4), (X, Y), r"cannot be applied to X.*\(5,\)"),
    "labels of another length": (net, (X, Y[:-1]), r"The target 'y'.*shape \(44,\).*\(45,\).*as many targets as rows"),
    "more classes than outputs": (
        lambda: net(outputs=2),
        (X, Y),
        r"3 classes, and a model with 2 outputs\. .*at least as many outputs.*Give the model 3 outputs",
    ),
    "one output for three classes": (lambda: net(outputs=1), (X, Y), r"3 classes, and a model with 1 output\."),
    "a quantity and several outputs": (net, (X, X[:, 0]), r"3 outputs, and a quantity.*one output"),
    "training mode": (
        lambda: eqx.nn.Sequential([net(), eqx.nn.Dropout(0.5)]),
        (X, Y),
        r"Dropout.*training mode.*eqx\.nn\.inference_mode",
    ),
    "NaN in the parameters": (
        lambda: eqx.tree_at(lambda f: f.layers[0].bias, net(), jnp.full(6, jnp.nan)),
        (X, Y),
        r"holds NaN or inf",
    ),
    "no parameters": (lambda: jax.tree_util.Partial(jnp.tanh), (X, Y), r"without parameters|without"),
    "an input that is not finite": (
        net,
        (np.where(X > 2, np.nan, X), Y),
        r"missing \(NaN\).*Every value is a finite number",
    ),
    "one axis": (net, (X[:, 0], Y), r"X of shape \(45,\).*X\[:, None\]"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_used_is_refused_before_anything_is_written(name, tmp_path):
    make, data, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refusal:
        report(make(), data, out=tmp_path / "page")
    assert str(refusal.value).count(". ") >= 1
    assert not (tmp_path / "page").exists()


def test_a_shape_fits_the_features_and_is_for_models_alone(tmp_path):
    with pytest.raises(ValueError, match=r"shape=\(8, 7, 1\) for examples of 64 numbers.*product is 64"):
        report(net(), "digits", shape=(8, 7, 1), out=tmp_path / "page")
    with pytest.raises(ValueError, match=r"shape=\(8, 8, 1\) with the network mlp.*Leave shape out"):
        report("digits", shape=(8, 8, 1), out=tmp_path / "page")


def test_work_beyond_the_time_limit_is_refused_with_the_way_out(tmp_path):
    X, y = blobs(rows=90)
    with pytest.raises(ValueError, match=r"would take about.*time_limit.*optimizer='sgd'"):
        report(net(), (X, y), time_limit=1e-3, out=tmp_path / "page")


# The page


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classes", "quantity", "divergence"])
def test_the_report_is_whole_and_claims_no_limit(task, tmp_path):
    X, y = blobs()
    y, outputs = (X[:, 0] ** 2, 1) if task == "quantity" else (y, 3)
    rate = 1e3 if task == "divergence" else None
    found = report(net(outputs=outputs), (X, y), quick=True, steps=30, learning_rate=rate, out=tmp_path)
    keys = [section.key for section in found.sections]
    assert keys == ["summary", "model", "signals", "kernel", "learning-rate", "lazy", "training", "accuracy", "how"]
    page, data = found.page.read_text("utf-8"), json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert "no statement about infinite width" in page and "NNGP" not in page and "infinitely wide" not in page
    assert not data["partial"] and not any(section["verdicts"] for section in data["sections"].values())
    if task == "divergence":
        assert "Training diverged: lower the learning rate below" in str(found)
    else:
        assert found.number("lazy", "kernel-drift-at-the-end").error is not None
        assert found.number("accuracy", f"{'r2' if outputs == 1 else 'accuracy'}-ntk").value is not None
