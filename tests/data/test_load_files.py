"""Files as people save them, and files that cannot be used."""

import re
import sys

import numpy as np
import pandas
import pytest

from widthwise.data import load, load_inputs

PLAIN = "a,b,label\n1,2,x\n3,4.5,y\n5,6,x\n7,8e0,y\n"
X = np.array([[1.0, 2.0], [3.0, 4.5], [5.0, 6.0], [7.0, 8.0]])


def written(folder, content, name="data.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


SPELLINGS = {
    "plain": PLAIN,
    "semicolon": PLAIN.replace(",", ";"),
    "tab": PLAIN.replace(",", "\t"),
    "bar": PLAIN.replace(",", "|"),
    "spaces": PLAIN.replace(",", " , "),
    "quoted": '"a","b","label"\n"1","2","x"\n"3","4.5","y"\n"5","6","x"\n"7","8","y"\n',
    "blank lines": "\n" + PLAIN.replace("\n", "\n\n"),
    "crlf": PLAIN.replace("\n", "\r\n"),
    "old mac": PLAIN.replace("\n", "\r"),
    "no last newline": PLAIN.rstrip(),
    "byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "pandas index": ",a,b,label\n0,1,2,x\n1,3,4.5,y\n2,5,6,x\n3,7,8,y\n",
    "R row names": '"","a","b","label"\n"1",1,2,"x"\n"2",3,4.5,"y"\n"3",5,6,"x"\n"4",7,8,"y"\n',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_reads_every_spelling_alike(tmp_path, spelling):
    data = load(written(tmp_path, SPELLINGS[spelling]))
    np.testing.assert_array_equal(data.X, X)
    assert data.feature_names == ("a", "b")
    assert data.classes == ("x", "y")
    assert data.y.tolist() == [0, 1, 0, 1]


def test_reads_without_a_header(tmp_path):
    data = load(written(tmp_path, PLAIN.partition("\n")[2]))
    np.testing.assert_array_equal(data.X, X)
    assert data.feature_names == ("column 0", "column 1")
    assert any("no header line" in warning for warning in data.warnings)


@pytest.mark.parametrize("header", ["0,1,2,3,4", "0,1,2,3,label", "a,2019,2020,2021,2022"])
def test_a_header_may_hold_numbers(tmp_path, header):
    rows = ["1,2,3,4,0", "2,3,4,6,1", "5,6,7,8,0", "9,1,2,3,1"]
    data = load(written(tmp_path, "\n".join([header, *rows])))
    assert data.feature_names == tuple(header.split(",")[:4])
    assert len(data) == 4


def test_two_counted_cells_are_data(tmp_path):
    data = load(written(tmp_path, "0,1\n1,0\n2,1\n3,0\n"))
    assert data.X[:, 0].tolist() == [0, 1, 2, 3]


def test_a_word_in_a_missing_first_cell_is_no_header(tmp_path):
    with pytest.raises(ValueError, match=r"'column 1' at line 1 of data.csv, which reads 'NA'"):
        load(written(tmp_path, "1,NA,x\n2,3,y\n3,4,x\n4,5,y\n"))


def test_a_tsv_is_split_at_tabs_first(tmp_path):
    text = "a\tb\tlabel\n1\t2\tx, or so\n3\t4.5\ty, or so\n5\t6\tx, or so\n7\t8\ty, or so\n"
    assert load(written(tmp_path, text, "data.tsv")).classes == ("x, or so", "y, or so")


def test_cells_may_hold_separators_quotes_and_line_breaks(tmp_path):
    text = 'a,"b,\nc",label\n1,2,"x ""1"""\n3,4.5,"y\nz"\n5,6,"x ""1"""\n7,8,"y\nz"\n'
    data = load(written(tmp_path, text))
    assert data.feature_names == ("a", "b,\nc")
    assert data.classes == ('x "1"', "y\nz")


def test_column_names_are_kept_as_they_are(tmp_path):
    name = "<script>alert(1)</script>"
    data = load(written(tmp_path, PLAIN.replace("a,b", f"{name},b")))
    assert data.feature_names == (name, "b")


def test_true_and_false_are_numbers_in_a_feature_and_classes_in_a_target(tmp_path):
    text = "a,b,c\nTrue,1,no\nFalse,2,no\ntrue,3,yes\nfalse,4,yes\n"
    path = written(tmp_path, text)
    assert load(path, "c").X[:, 0].tolist() == [1, 0, 1, 0]
    lower = written(tmp_path, text.lower(), "lower.csv")
    assert load_inputs(lower, "c").X[:, 0].tolist() == [1, 0, 1, 0]
    assert load(written(tmp_path, "a,b\n1,True\n2,False\n3,True\n4,False\n", "flags.csv")).classes == ("False", "True")


def test_target_by_name_and_by_index(tmp_path):
    path = written(tmp_path, "7,0,c\n1,2,3\n2,3,3\n4,2,1\n0,3,1\n")
    assert load(path, "0").feature_names == ("7", "c")
    assert load(path, "2").feature_names == ("7", "0")
    assert load(path, 0).feature_names == ("0", "c")
    assert load(path, -1).feature_names == ("7", "0")


def test_the_default_target_is_said(tmp_path):
    path = written(tmp_path, PLAIN)
    assert load(path).warnings == ("no target was named; the last column of data.csv, 'label', is taken as the target",)
    assert load(path, "label").warnings == ()


def test_arrays_in_an_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=X, y=np.array(["x", "y", "x", "y"]), other=X[:, 0], count=np.arange(4.0))
    assert load(path).classes == ("x", "y")
    assert load(path).feature_names == ("feature 0", "feature 1")
    assert load(path, "other").task == "regression"
    assert load_inputs(path, "none").X.shape == (4, 2)
    assert load(str(path)).warnings == ()


def test_columns_in_an_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, a=X[:, 0], b=X[:, 1:], label=np.array([b"x", b"y", b"x", b"y"]))
    data = load(path)
    np.testing.assert_array_equal(data.X, X)
    assert data.feature_names == ("a", "b")
    assert data.classes == ("x", "y")


def test_an_npz_of_features_alone(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=X.astype(np.float32))
    inputs = load_inputs(path, "none")
    assert inputs.X.dtype == np.float64
    with pytest.raises(ValueError, match=r"no array 'y' beside X\. X stands alone"):
        load(path)
    with pytest.raises(ValueError, match="is asked for without a target"):
        load(path, "none")


def test_parquet(tmp_path):
    path = tmp_path / "data.parquet"
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "n": [1, 2, 3, 4], "label": ["x", "y", "x", "y"]})
    frame.astype({"label": "category"}).to_parquet(path)
    data = load(path)
    np.testing.assert_array_equal(data.X[:, :2], X)
    assert data.classes == ("x", "y")
    frame.iloc[[0, 2, 1, 3]].to_parquet(path)
    data = load(path, "label")
    assert data.feature_names == ("a", "b", "n")
    assert data.warnings == ("the row index of data.parquet was left out",)


def test_parquet_with_a_gap(tmp_path):
    path = tmp_path / "data.parquet"
    pandas.DataFrame({"a": [1, None, 2, 3], "y": ["x", "y", "x", "y"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"column 'a' at row 1 \(counted from 0\) of data.parquet, is missing"):
        load(path)
    pandas.DataFrame({"a": [1, 4, 2, 3], "y": ["x", None, "x", "y"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"'y' of data.parquet has no value at row 1"):
        load(path)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"widthwise\[parquet\]"):
        load(written(tmp_path, b"PAR1", "data.parquet"))


# Content of data.csv, and what the message has to say.
BAD_CSV = {
    "empty": ("", "is empty"),
    "only blank lines": ("\n  \n\n", "is empty"),
    "header only": ("a,b,label\n", "a header and no rows"),
    "one row": ("a,b,label\n1,2,x\n", "has 1 row"),
    "one row, no header": ("1,2,3\n", "has 1 row"),
    "one column": ("a\n1\n2\n3\n4\n", "has 1 column"),
    "separated by spaces": ("a b\n1 2\n3 4\n5 6\n7 8\n", "has 1 column"),
    "text in a feature": (PLAIN.replace("4.5", "four"), "'b' of data.csv holds the text 'four' at line 3"),
    "text column": ("a,b,y\nred,1,0\nblue,2,0\nred,3,1\nblue,4,1\n", "'a' of data.csv holds the text 'red' at line 2"),
    "long text": (PLAIN.replace("4.5", "f" * 500), "fff...' at line 3"),
    "decimal comma": (PLAIN.replace(",", ";").replace("4.5", "4,5"), "'4,5' at line 3, a number with a decimal comma"),
    "underscore": (PLAIN.replace("4.5", "4_5"), "the text '4_5'"),
    "gap": (PLAIN.replace("4.5", ""), "column 'b' at line 3 of data.csv, which reads '', is missing"),
    "NA": (PLAIN.replace("4.5", "NA"), "which reads 'NA', is missing"),
    "NaN": (PLAIN.replace("4.5", "nan"), "which reads 'nan', is missing"),
    "several NaN": (PLAIN.replace("4.5", "nan").replace("6", "?"), "2 values like this"),
    "inf": (PLAIN.replace("4.5", "-inf"), "which reads '-inf', is infinite"),
    "overflow": (PLAIN.replace("4.5", "1e999"), "is infinite"),
    "ragged": (PLAIN.replace("3,4.5,y", "3,4.5"), "Line 3 of .* has 2 cells, and its header has 3"),
    "ragged after a line break": ('a,b,label\n1,2,"x\ny"\n3,4\n', "Line 4 of .* has 2 cells"),
    "open quote": (PLAIN.replace("4.5", '"4.5'), "cannot be split into cells from line 3 on"),
    "not text": (b"a,b,label\n1,2,x\n3,\xff,y\n", "not UTF-8 text: the byte 0xff at line 3"),
    "latin-1": ("naïve,b,label\n1,2,x\n".encode("latin-1"), "0xef at line 1"),
    "broken utf-16": (b"\xff\xfea", "not UTF-16 text"),
    "unlabelled row": (PLAIN.replace("4.5,y", "4.5,"), "'label' of data.csv has no value at line 3"),
    "constant features": ("a,b,y\n1,2,x\n1,2,y\n1,2,x\n1,2,y\n", "All 2 features of data.csv are constant"),
    "constant label": (PLAIN.replace("x", "y"), "'label' of data.csv is 'y' in every row"),
    "constant number": ("a,y\n1,2\n2,2\n3,2\n4,2\n", "'y' of data.csv is '2' in every row"),
    "a class with one member": ("a,y\n1,x\n2,x\n3,y\n4,x\n", "have a single row: 'y' .the first at line 4."),
    "names for labels": ("a,y\n1,ann\n2,bob\n3,cy\n4,di\n", "4 different labels in 4 rows"),
    "NaN in the target": ("a,y\n1,0.5\n2,nan\n3,0.1\n4,2\n", "column 'y' at line 3 of data.csv, which reads 'nan'"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_refuses_with_three_parts(tmp_path, case):
    content, says = BAD_CSV[case]
    with pytest.raises(ValueError, match=r"(?s).+\. .+\. .+\.$") as caught:
        load(written(tmp_path, content))
    assert re.search(says, str(caught.value))


def test_one_text_in_a_target_of_numbers(tmp_path):
    rows = [f"{j},{j / 7}" for j in range(30)]
    with pytest.raises(ValueError, match=r"'y' of data.csv holds the text 'n.a' at line 32"):
        load(written(tmp_path, "\n".join(["x,y", *rows, "30,n.a"])))


@pytest.mark.parametrize("target", ["lable", "99", "-4"])
def test_a_target_that_does_not_exist(tmp_path, target):
    with pytest.raises(ValueError, match=f"no column '{target}'.*'a', 'b', 'label'") as caught:
        load(written(tmp_path, PLAIN), target)
    assert ("did you mean 'label'" in str(caught.value)) == (target == "lable")


def test_a_target_that_exists_twice(tmp_path):
    with pytest.raises(ValueError, match=r"2 columns of data.csv are called 'a'.*0 or 1"):
        load(written(tmp_path, PLAIN.replace("a,b", "a,a")), "a")


def test_paths_that_are_no_data_files(tmp_path):
    written(tmp_path, PLAIN, "measured.csv")
    for name, says in {
        "mesured.csv": "no file .*did you mean .*measured.csv",
        "nowhere/data.csv": "nor a folder",
        ".": "is a directory; it holds 'measured.csv'",
    }.items():
        with pytest.raises(ValueError, match=says):
            load(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="it holds no data file"):
        load(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"ends in '.xlsx'"):
        load(written(tmp_path, PLAIN, "data.xlsx"))
    with pytest.raises(ValueError, match="has no extension"):
        load(written(tmp_path, PLAIN, "data"))
    with pytest.raises(ValueError, match="not a regular file"):
        load("/dev/null")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    path = written(tmp_path, PLAIN)
    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["data.npz", "data.parquet"])
def test_files_that_are_not_what_their_name_says(tmp_path, content, name):
    with pytest.raises(ValueError, match=r"is not an archive|cannot be read as Parquet"):
        load(written(tmp_path, content, name))


def test_an_npz_with_python_objects_is_not_opened(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=np.array([{}, None, 1], dtype=object), y=np.arange(3), allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects"):
        load(path)
    single = tmp_path / "single.npz"
    np.save(single.with_suffix(".npy"), X)
    single.with_suffix(".npy").rename(single)
    with pytest.raises(ValueError, match="is not an archive"):
        load(single)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": np.arange(3.0), "b": np.arange(4.0)}, r"'a' of shape \(3,\), 'b' of shape \(4,\)"),
        ({"x_train": np.zeros((5, 4, 4)), "y_train": np.arange(5)}, "'x_train' of shape"),
        ({"X": np.zeros((5, 4, 4)), "y": np.arange(5)}, r"shape \(5, 4, 4\).*X.reshape"),
        ({"X": np.zeros((5, 2)), "y": np.arange(4)}, r"'y' of data.npz has shape \(4,\), beside 5 rows"),
        ({"X": np.zeros((5, 2)), "y": np.eye(5)}, r"argmax"),
        ({"X": np.zeros((5, 2)), "label": np.arange(5)}, "no array 'y' beside X. Its other arrays are 'label'"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, r"shape \(0, 2\)"),
        ({"X": np.full((5, 2), 1j), "y": np.arange(5)}, "type complex128"),
        ({"X": np.arange(8.0).reshape(4, 2), "y": np.full(4, 1j)}, "target 'y' of data.npz holds values of type"),
        ({"X": np.array(["2020", "2021"] * 2, "M8[Y]")[:, None], "y": np.arange(4)}, "type datetime64"),
        ({}, "holds no arrays"),
    ],
)
def test_an_npz_with_the_wrong_arrays(tmp_path, arrays, says):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"(?s).+\. .+\. .+\.$") as caught:
        load(path)
    assert re.search(says, str(caught.value))
