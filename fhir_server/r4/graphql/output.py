"""The answer laid out: fields under their names, lists as lists, and what `@flatten`, `@slice` and `@singleton` make.

https://hl7.org/fhir/R4/graphql.html#flattening - an element that is not there has no place in the answer either, as
R4's own examples show; a list that was searched is there, empty or not.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_server.outcomes import BadParameter
from fhir_server.r4.graphql.faults import refused
from fhir_server.r4.graphql.selection import Field


@dataclass(slots=True)
class Part:
    """A field of one object: its values (JSON of primitives, branches, None), each with its slice where it has one."""

    field: Field
    values: list[Any] = dataclasses.field(default_factory=list[Any])
    slices: list[str | None] = dataclasses.field(default_factory=list["str | None"])
    is_answered: bool = False
    """Whether it is there although it has no value: a list that was searched."""

    def add(self, value: Any, name: str | None) -> None:
        """One more value."""
        self.values.append(value)
        self.slices.append(name)


@dataclass(slots=True)
class Branch:
    """An object of the answer, as it was selected."""

    parts: list[Part]


@dataclass(slots=True)
class _Slot:
    """What stands under one name of the answer."""

    type: str
    part: Part
    is_list: bool
    values: list[Any]


def laid_out(branch: Branch) -> Mapping[str, Any]:
    """The object of a branch. Raises BadParameter for values that cannot stand under one name."""
    slots: dict[str, _Slot] = {}
    _lay(branch, slots, is_list=False, suffix="")
    return {name: _value(slot) for name, slot in slots.items()}


def _lay(branch: Branch, slots: dict[str, _Slot], *, is_list: bool, suffix: str) -> None:
    """The fields of a branch under their names; `is_list` where a parent that repeats was flattened."""
    for part in branch.parts:
        one = part.field
        repeats = one.definition.repeats or is_list
        if part.is_answered and not one.shape.flatten and not part.values:
            _slot(slots, part, suffix, is_list=repeats)
        for value, name in zip(part.values, part.slices, strict=True):
            ending = suffix if name is None else f"{suffix}.{name}"
            if one.shape.flatten:
                if value is not None:
                    _lay(value, slots, is_list=repeats, suffix=ending)
                continue
            slot = _slot(slots, part, ending, is_list=repeats)
            if value is not None or not is_list:  # the nulls of a list say where it has extensions only
                slot.values.append(laid_out(value) if isinstance(value, Branch) else value)


def _slot(slots: dict[str, _Slot], part: Part, suffix: str, *, is_list: bool) -> _Slot:
    one = part.field
    slot = slots.setdefault(one.key + suffix, _Slot(one.definition.type, part, is_list, []))
    if slot.type != one.definition.type:
        raise refused(f"{slot.type} and {one.definition.type} would stand under one name", one.node)
    return slot


def _value(slot: _Slot) -> Any:
    if slot.part.field.shape.singleton:
        if len(slot.values) > 1:
            raise _several(slot)
        return slot.values[0] if slot.values else None
    return slot.values if slot.is_list or len(slot.values) > 1 else slot.values[0]


def _several(slot: _Slot) -> BadParameter:
    return refused(
        f"{slot.part.field.definition.name} is said to be a singleton, and has several values", slot.part.field.node
    )
