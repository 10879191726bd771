"""The levels of levels.py as settings of Splink 5, with the weights of a model; for the optional extra `linkage`. Pure.

Splink computes the same sum: tests/linkage/test_splink.py holds both to 1e-6 bits. Rarity is written as levels of its
own, one for each class of frequency, since Splink adjusts for the frequency of one column and names here are several.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_origin, get_type_hints

from fhir_server.linkage.comparable import Comparable, class_of_letter
from fhir_server.linkage.levels import FRENCH, Comparison, Level
from fhir_server.linkage.model import Model

ID = "unique_id"


def columns(person_type: type = Comparable) -> dict[str, str]:
    """Column -> type in DuckDB, of the table that the settings compare."""
    hints = get_type_hints(person_type)
    return {field.name: _sql_type(hints[field.name]) for field in fields(person_type)}


def _sql_type(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "varchar[]"
    return "boolean" if hint is bool else "varchar"


def row_of(identity: str, person: Any) -> dict[str, Any]:
    """One person as a row of that table."""
    values = {field.name: getattr(person, field.name) for field in fields(person)}
    return {ID: identity} | {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def settings(
    model: Model,
    blocking_rules: Sequence[str],
    register_size: int | None = None,
    comparisons: Sequence[Comparison] = FRENCH,
) -> dict[str, Any]:
    """The settings document of Splink 5, to link incoming records with a register under this model."""
    prior = model.prior(register_size)
    return {
        "link_type": "link_only",
        "unique_id_column_name": ID,
        "probability_two_random_records_match": 1 / (1 + 2.0**-prior),
        "retain_intermediate_calculation_columns": False,
        "retain_matching_columns": False,
        "blocking_rules_to_generate_predictions": [{"blocking_rule": rule} for rule in blocking_rules],
        "comparisons": [_comparison(model, comparison) for comparison in comparisons],
    }


def _comparison(model: Model, comparison: Comparison) -> dict[str, Any]:
    levels: list[dict[str, Any]] = [
        {"sql_condition": comparison.nothing.sql(), "label_for_charts": "nothing", "is_null_level": True}
    ]
    for level in comparison.levels:
        levels += _levels(model, comparison.field, level)
    return {"output_column_name": comparison.field.replace(" ", "_"), "comparison_levels": levels}


def _levels(model: Model, field: str, level: Level) -> list[dict[str, Any]]:
    weights = model.fields[field][level.name]
    if level.when is None:
        return [_level("ELSE", level.name, weights.m, weights.u)]
    condition = level.when.sql()
    if level.rarity is None:
        return [_level(condition, level.name, weights.m, weights.u)]
    column = level.rarity
    rarest = f"list_max(list_intersect({column}_l, {column}_r))"
    return [
        _level(
            f"({condition}) and {rarest} >= '{letter}'",
            f"{level.name} {letter}",
            *_scaled(weights.m, weights.u, model.rarity_bits(field, level.name, letter)),
        )
        for letter in sorted(class_of_letter, reverse=True)
    ]


def _scaled(m: float, u: float, more_bits: float) -> tuple[float, float]:
    """m and u with so many bits more between them, both still probabilities."""
    scaled = u * 2.0**-more_bits
    return (m, scaled) if scaled <= 1 else (m / scaled, 1.0)


def _level(condition: str, label: str, m: float, u: float) -> dict[str, Any]:
    return {
        "sql_condition": condition,
        "label_for_charts": label,
        "m_probability": m,
        "u_probability": u,
        "fix_m_probability": True,
        "fix_u_probability": True,
    }
