"""One declaration, two implementations: Splink 5 on DuckDB weighs every pair as we do, to 1e-6 bits."""

import json
import re
from pathlib import Path

import pytest

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.grade import Candidate, Judge
from fhir_server.linkage.levels import FRENCH
from fhir_server.linkage.model import default_model
from fhir_server.linkage.predicates import MACROS
from fhir_server.linkage.splink_settings import columns, row_of, settings
from tests.linkage.test_pairs import LINES, person

FIXTURES = [tuple(person(side) for side in line.split("=>")[:2]) for line in LINES]


def test_every_condition_is_sql_over_known_columns() -> None:
    names = set(columns())
    for comparison in FRENCH:
        conditions = [comparison.nothing, *(level.when for level in comparison.levels if level.when)]
        for condition in conditions:
            used = {name[:-2] for name in re.findall(r"\b\w+_[lr]\b", condition.sql())}
            assert used
            assert used <= names, comparison.field


@pytest.mark.filterwarnings("ignore")
def test_splink_weighs_and_grades_as_we_do(tmp_path: Path) -> None:
    splink = pytest.importorskip("splink", reason="the optional extra [linkage] is not installed: splink 5 and DuckDB")
    duckdb = pytest.importorskip("duckdb", reason="the optional extra [linkage] is not installed: splink 5 and DuckDB")
    model = default_model()
    judge = Judge(model, 100_000)
    connection = duckdb.connect()
    for macro in MACROS:
        connection.execute(macro)
    api = splink.DuckDBAPI(connection=connection)
    tables = [_table(connection, tmp_path, api, side) for side in (0, 1)]
    linker = splink.Linker(tables, settings(model, ["l.pair = r.pair"], 100_000))
    predicted = linker.inference.predict(threshold_match_weight=-1000)
    sql = "select unique_id_l, unique_id_r, match_weight from {this}"
    rows = predicted.query_sql(sql).as_duckdbpyrelation().fetchall()
    assert len(rows) == len(FIXTURES)
    for one, other, weight in rows:
        place = int((one if one[0] == "r" else other)[1:])
        register, stated = FIXTURES[place]
        ours = judge.grade(stated, [Candidate("r", register)])[0]
        assert ours.odds == pytest.approx(weight, abs=1e-6), (LINES[place], ours.waterfall)
        theirs = judge.grade_weighed(stated, register, weight - judge.prior)
        assert theirs.grade == ours.grade


def _table(connection: object, folder: Path, api: object, side: int) -> object:
    letter = "rx"[side]
    rows = [row_of(f"{letter}{place}", pair[side]) | {"pair": str(place)} for place, pair in enumerate(FIXTURES)]
    file = folder / f"{letter}.json"
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf8")
    types = {"unique_id": "varchar", "pair": "varchar"} | columns(Comparable)
    spelled = ", ".join(f"{name}: '{kind}'" for name, kind in types.items())
    relation = connection.sql(f"select * from read_json('{file}', columns={{{spelled}}})")  # type: ignore[attr-defined]
    return api.register(relation.to_arrow_table())  # type: ignore[attr-defined]
