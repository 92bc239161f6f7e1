"""Records as labelled arrays and in a folder: appended, taken up again after an interruption, and what is refused."""

import shutil
import sys

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import xarray
import zarr

from widthwise.measure.recorder import KernelRecorder

X, Y = np.random.default_rng(0).normal(size=(5, 4)), np.array([0, 1, 2, 0, 1])
PARAMS = {"w": jr.normal(jr.key(0), (4, 8)), "v": jr.normal(jr.key(1), (8, 3))}


def net(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def later(step):
    return {name: one + 0.1 * step * jnp.cos(one) for name, one in PARAMS.items()}


def recorder(params=PARAMS, **options):
    return KernelRecorder(net, X, Y, every=1, params=params, **options)


def follow(recorder, steps):
    for step in steps:
        recorder(step, later(step))


@pytest.fixture(scope="module")
def whole():
    made = recorder()
    follow(made, range(5))
    return made


def same(found, whole):
    """All but the time that records took."""
    xarray.testing.assert_allclose(found.drop_vars("seconds"), whole.dataset().drop_vars("seconds"), rtol=1e-14)


def resumed(path, **options):
    return KernelRecorder.resume(path, net, params=later(3), **options)


def test_the_data_set_names_its_axes_and_how_it_was_made(whole):
    found = whole.dataset()
    assert dict(found.sizes) == {"step": 5, "layer": 2, "feature": 1, "input": 5, "other_input": 5}
    assert found.layer.values.tolist() == ["v", "w"] and found.feature.values.tolist() == ["outputs"]
    assert found.attrs["loss"] == "cross_entropy" and found.attrs["seed"] == 0 and "jax_version" in found.attrs
    assert float(found.weight_change.sel(step=4, layer="w")) == whole.records["weight_change"][4, 1]
    np.testing.assert_array_equal(found.initial_kernel, whole.initial_kernel)


def test_saving_appends_and_reading_gives_the_same(whole, tmp_path):
    made, path = recorder(), tmp_path / "drift.zarr"
    for step in range(5):
        follow(made, [step])
        made.save(path)
        made.save(path)
    xarray.testing.assert_identical(xarray.open_zarr(path, consolidated=False).load(), made.dataset())
    same(made.dataset(), whole)


def test_an_interrupted_training_goes_on(whole, tmp_path):
    first, path = recorder(), tmp_path / "drift.zarr"
    follow(first, range(3))
    first.save(path)
    second = resumed(path)
    follow(second, [3, 4])
    same(second.dataset(), whole)
    second.save(path)
    same(xarray.open_zarr(path, consolidated=False).load(), whole)


def test_records_after_the_checkpoint_are_made_anew(whole, tmp_path):
    first, path = recorder(), tmp_path / "drift.zarr"
    follow(first, [0, 1])
    first.record(2, PARAMS)  # of a course that is left again
    first.record(4, PARAMS)
    first.save(path)
    second = resumed(path)
    follow(second, [2, 3, 4])
    second.save(path)
    found = xarray.open_zarr(path, consolidated=False).load()
    assert np.isnan(found.velocity[2])  # the kernel of step 1 is not there any more
    expected = whole.dataset()
    found.velocity[2] = expected.velocity[2]
    same(found, whole)


def test_what_was_left_half_written_is_cut_away(whole, tmp_path):
    first, path = recorder(), tmp_path / "drift.zarr"
    follow(first, range(3))
    first.save(path)
    group = zarr.open_group(path, mode="r+")
    for name in ("step", "distance"):  # as if the fourth row had been begun
        group[name].resize((4,))
    second = resumed(path)
    assert second.records["step"].tolist() == [0, 1, 2]
    follow(second, [3, 4])
    second.save(path)
    same(xarray.open_zarr(path, consolidated=False).load(), whole)


def test_before_the_first_record_there_is_something_to_go_on_with(tmp_path):
    path = tmp_path / "drift.zarr"
    recorder().save(path)
    made = resumed(path)
    follow(made, [0, 1])
    made.save(path)
    assert xarray.open_zarr(path, consolidated=False).step.values.tolist() == [0, 1]


def test_a_start_without_records_is_not_taken_up_but_written_again(whole, tmp_path):
    path = tmp_path / "drift.zarr"
    whole.save(path)
    for name in ("distance", "step"):
        shutil.rmtree(path / name)
    with pytest.raises(ValueError, match=r"holds no records.*KernelRecorder\.save.*begin with"):
        resumed(path)
    whole.save(path)
    same(xarray.open_zarr(path, consolidated=False).load(), whole)


def test_other_folders_are_refused_and_stay_as_they_are(whole, tmp_path):
    path = tmp_path / "drift.zarr"
    whole.save(path)
    with pytest.raises(ValueError, match=r"another training.*same start.*Choose another folder"):
        recorder(params=later(1)).save(path)
    same(xarray.open_zarr(path, consolidated=False).load(), whole)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(ValueError, match=r"something else than records.*Choose another folder"):
            whole.save(tmp_path / name)
    for name in ("nothing", "file", "notes"):
        with pytest.raises(ValueError, match="records"):
            resumed(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "notes" / "mine.txt").read_text() == "mine"


def test_a_model_with_other_layers_is_not_taken_up(whole, tmp_path):
    path = tmp_path / "drift.zarr"
    whole.save(path)
    narrow = {"w": PARAMS["w"][:, :4], "v": PARAMS["v"][:4]}
    with pytest.raises(ValueError, match=r"a model with layers v, w.*holds records.*Bring the model"):
        KernelRecorder.resume(path, net, params=narrow)

    def mine(outputs, labels):
        return jnp.sum(outputs)

    with pytest.raises(ValueError, match="loss mine"):
        resumed(path, loss=mine)


@pytest.mark.parametrize("missing", ["xarray", "zarr"])
def test_without_the_extra_the_message_names_it(whole, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    said = r"no packages xarray and zarr.*need them.*'widthwise\[xarray\]'"
    for refused in (whole.dataset, lambda: whole.save(tmp_path / "new"), lambda: resumed(tmp_path / "new")):
        with pytest.raises(ValueError, match=said):
            refused()
    assert not (tmp_path / "new").exists()
    assert len(whole.records["step"]) == 5
