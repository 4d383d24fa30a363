import polars as pl
import pytest

from trsr.data.ids import id_texts, mended_ids
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError


def mended(values):
    column = (values if isinstance(values, pl.Series) else pl.Series(values)).alias("id")
    rows = pl.DataFrame([id_texts(column)]).with_columns(
        pl.lit("e.csv").alias(FILE), pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE)
    )
    notes = Notes()
    ids = mended_ids(rows, ["id"], notes)["id"].to_list()
    return ids, {finding.rule: finding.count for finding in notes.findings()}


@pytest.mark.parametrize(
    ("values", "ids", "findings"),
    [
        (["0007", "7", "007", "7e3", "a,b"], ["0007", "7", "007", "7e3", "a,b"], {}),
        ([" u ", "v", "\u00a0w"], ["u", "v", "w"], {"padded-id": 2}),
        (["u", "", "  ", None], ["u"], {"padded-id": 1, "missing-id": 3}),
        ([7, 8], ["7", "8"], {}),
        ([7.0, 8.0, None, float("nan")], ["7", "8"], {"float-id": 2, "missing-id": 2}),
        ([7.0, 7.5], ["7.0", "7.5"], {}),
        ([-1e18], ["-1000000000000000000"], {"float-id": 1, "rounded-id": 1}),
        (["7.0", "", "12.0"], ["7", "12"], {"float-id": 2, "missing-id": 1}),
        (["7", "7.0", "8", "12.0"], ["7", "7", "8", "12"], {"float-id": 2}),
        (["7.0", "007", "7"], ["7", "007", "7"], {"float-id": 1}),
        (["1.0", "1.0.1"], ["1.0", "1.0.1"], {}),
        (["A", "7.0", "7", "8.0"], ["A", "7.0", "7", "8.0"], {"twin-id": 1}),
        (pl.Series(["x"], dtype=pl.Categorical), ["x"], {}),
        (pl.Series(["12.00"]).cast(pl.Decimal(10, 2)), ["12"], {"float-id": 1}),
        (pl.Series([b"\x0a"]), ["0a"], {}),
    ],
)
def test_ids_of_every_type(values, ids, findings):
    assert mended(values) == (ids, findings)


def test_lists_of_ids():
    assert id_texts(pl.Series([[7, None], [], None])).to_list() == [["7", None], [], None]
    assert id_texts(pl.Series([[7.0]], dtype=pl.Array(pl.Float64, 1))).to_list() == [["7.0"]]


@pytest.mark.parametrize("values", [[True], [{"a": 1}], [[[1]]], pl.Series([0], dtype=pl.Date)])
def test_types_of_no_ids_are_refused(values):
    with pytest.raises(DataError, match=r"column 'id' holds values of type .* which are no ids"):
        mended(values)
