"""Files are whole or as they were before; places that cannot be written to are refused."""

import pytest

from rlspo.zoo.config.atomic import check_place, whole, write_text
from rlspo.zoo.errors import UserError


def test_a_file_is_there_only_when_it_is_whole(tmp_path):
    file = tmp_path / "numbers.csv"
    with whole(file) as partial:
        partial.write_text("1")
        assert partial.parent == tmp_path and partial.suffix == ".csv" and not file.exists()
    assert file.read_text() == "1"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path, error):
    file = tmp_path / "numbers.csv"
    write_text(file, "old")
    with pytest.raises(error), whole(file) as partial:
        partial.write_text("half")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_places_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (None, tmp_path / "new.csv"):
        check_place("--csv", place)
    with pytest.raises(UserError, match=r"--csv .*: is a folder\."):
        check_place("--csv", tmp_path)
    with pytest.raises(UserError, match=r"--csv .*new\.csv: there is no folder .*nowhere\."):
        check_place("--csv", tmp_path / "nowhere" / "new.csv")
