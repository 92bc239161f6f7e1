"""Work that cannot fit is refused before it begins."""

import pytest

from widthwise.data import capacity, demand_memory


def test_what_fits_passes():
    assert demand_memory(1, "Nothing", "Rest") is None
    assert 2**20 < capacity.available_memory() < 2**62


def test_what_does_not_fit_says_its_price_and_a_remedy():
    with pytest.raises(
        ValueError, match=r"A matrix needs 1e\+09 GB of memory\. At most .+ GB are free here\. Take less\."
    ):
        demand_memory(10**18, "A matrix", "Take less")


@pytest.mark.parametrize("files", capacity._CGROUP_FILES)
def test_a_container_limits_what_is_free(tmp_path, monkeypatch, files):
    for name, content in zip(files, ("1000000\n", "700000\n", "anon 5\ninactive_file 200000\n"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(capacity, "_CGROUP", tmp_path)
    assert capacity.available_memory() == 500000  # the file cache is given back on demand
    (tmp_path / files[0]).write_text("max\n")
    assert capacity.available_memory() > 500000
