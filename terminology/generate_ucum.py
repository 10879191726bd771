"""Write `tables/ucum.json` from UCUM's own ucum-essence.xml: prefixes, base units and what every other unit is made of.

https://ucum.org/ucum-essence.xml

    python -m terminology.generate_ucum PATH/TO/ucum-essence.xml

Codes, values and definitions are taken over as they stand, character by character; names and prose stay behind.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

TABLE: Final = Path(__file__).parent / "tables" / "ucum.json"
ESSENCE: Final = "{http://unitsofmeasure.org/ucum-essence}"
NOTICE: Final = (
    "Copyright 1999-2022 Regenstrief Institute, Inc. All rights reserved. Licensed under the UCUM License, "
    'Version 1.0 (the "License"); you may not use this file except in compliance with the License. You may obtain '
    "a copy of the License at https://unitsofmeasure.org/license. Unless required by applicable law or agreed to "
    'in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR '
    "CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing "
    "permissions and limitations under the License."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the essence that is named, write the table; 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("essence", type=Path, help="ucum-essence.xml")
    root = ElementTree.parse(parser.parse_args(arguments).essence).getroot()  # noqa: S314 - a file that we chose
    write({
        "notice": NOTICE,
        "version": root.attrib["version"],
        "revision-date": root.attrib["revision-date"],
        "prefixes": {one.attrib["Code"]: value_of(one).attrib["value"] for one in root.iter(ESSENCE + "prefix")},
        "base-units": [one.attrib["Code"] for one in root.iter(ESSENCE + "base-unit")],
        "units": {one.attrib["Code"]: definition(one) for one in root.iter(ESSENCE + "unit")},
    })  # fmt: skip
    return 0


def definition(unit: ElementTree.Element) -> dict[str, Any]:
    """How many of which unit it is. `function` names the scale of a special unit; its value and unit are those that
    the scale starts from.
    """
    value = value_of(unit)
    function = value.find(ESSENCE + "function")
    facts: dict[str, Any] = {"value": value.get("value"), "unit": value.get("Unit")}
    if function is not None:
        facts = {
            "value": function.attrib["value"],
            "unit": function.attrib["Unit"],
            "function": function.attrib["name"],
        }
    if unit.get("isMetric") == "yes":
        facts["metric"] = True
    if unit.get("isArbitrary") == "yes":
        facts["arbitrary"] = True
    return facts


def value_of(one: ElementTree.Element) -> ElementTree.Element:
    """The element `value`, which every prefix and unit has."""
    value = one.find(ESSENCE + "value")
    if value is None:
        raise ValueError(f"{one.get('Code')} has no value: this is not ucum-essence.xml")
    return value


def write(table: dict[str, Any]) -> None:
    """JSON with one unit per line, so that a diff between two revisions of UCUM reads well."""
    units = ",\n".join(f"{json.dumps(code)}: {json.dumps(facts)}" for code, facts in table.pop("units").items())
    head = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
    TABLE.write_text(f'{{\n{head},\n"units": {{\n{units}\n}}\n}}\n', "utf-8")


if __name__ == "__main__":
    sys.exit(main())
