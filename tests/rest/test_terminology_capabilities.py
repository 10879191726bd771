"""TerminologyCapabilities: https://hl7.org/fhir/R4/terminologycapabilities.html - each line of it is exercised."""

from typing import Any

import httpx
import pytest

from fhir_server.r4 import structure
from tests.rest.operations.terms import answered, listed, posted, told
from tests.support import found, keep
from tests.terminology.exposures import AT_WORK, EXPOSURES, EXPOSURES_SYSTEM, value_set
from tests.terminology.exposures import codes as taken
from tests.terminology.test_translation import SIMPLE

WHOLE = value_set(AT_WORK, taken(), id="whole")
OLD = EXPOSURES_SYSTEM | {"id": "old", "version": "1", "date": "2020", "concept": [{"code": "cold"}]}
# What to give for a parameter of $expand, where it is not one of the value sets that are kept.
VALUES: dict[str, Any] = {
    "url": AT_WORK,
    "valueSet": WHOLE,
    "valueSetVersion": "1",
    "filter": "noise",
    "date": "2000-01-01",
    "offset": 0,
    "count": 1,
    "includeDesignations": True,
    "designation": ["fr"],
    "includeDefinition": True,
    "activeOnly": True,
    "excludeNested": True,
    "excludeNotForUI": True,
    "excludePostCoordinated": True,
    "displayLanguage": "fr",
    "exclude-system": [EXPOSURES],
    "system-version": [f"{EXPOSURES}|2"],
    "check-system-version": [f"{EXPOSURES}|2"],
    "force-system-version": [f"{EXPOSURES}|2"],
}


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A code system, a value set and a concept map."""
    await keep(fhir_client, EXPOSURES_SYSTEM, WHOLE | {"version": "1"}, SIMPLE | {"id": "simple"})
    return fhir_client


@pytest.fixture
async def said(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    """The statement, which anybody may read."""
    return (await anonymous.get("/fhir/metadata", params={"mode": "terminology"})).json()


def test_it_is_valid_and_lists_nothing_that_is_kept(said: dict[str, Any]) -> None:
    """As our own check reads R4."""
    assert structure.check(said) == []
    assert "codeSystem" not in said


async def test_each_parameter_of_an_expansion_is_known(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """None is refused as unknown; those that are not listed are."""
    names = [one["name"] for one in said["expansion"]["parameter"]]
    assert set(names) == VALUES.keys()
    for name in names:
        others = {} if name in ("url", "valueSet") else {"url": AT_WORK}
        answer = await posted(kept, "ValueSet/$expand", {**others, name: VALUES[name]})
        assert answer.status_code == (400 if name == "date" else 200), name
    for name in ("context", "contextDirection", "property"):
        assert (await posted(kept, "ValueSet/$expand", {"url": AT_WORK, name: "x"})).status_code == 400


async def test_expansions_are_as_it_says(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """Flat, in pages, of fragments too, by the text filter that is described."""
    expansion = said["expansion"]
    assert (expansion["hierarchical"], expansion["paging"], expansion["incomplete"]) == (False, True, True)
    assert "accents" in expansion["textFilter"]
    flat = (await answered(kept, "ValueSet/$expand", {"url": AT_WORK}))["expansion"]["contains"]
    assert all("contains" not in one for one in flat)
    page = await answered(kept, "ValueSet/$expand", {"url": AT_WORK, "offset": 1, "count": 2, "filter": "AGENT"})
    assert listed(page) == ["chemical"]
    await keep(kept, EXPOSURES_SYSTEM | {"content": "fragment"})
    assert "extension" in (await answered(kept, "ValueSet/$expand", {"url": AT_WORK}))["expansion"]


async def test_a_locked_date_is_kept(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """The version of that time."""
    assert said["lockedDate"] is True
    await keep(kept, EXPOSURES_SYSTEM | {"date": "2024"}, OLD)
    locked = value_set(AT_WORK, taken(), lockedDate="2021-01-01")
    assert listed(await answered(kept, "ValueSet/$expand", {"valueSet": locked})) == ["cold"]


async def test_codes_are_searched_for_where_they_are_listed(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """`codeSearch` explicit: ValueSet?code= finds what a composition lists, not what it would select."""
    assert said["codeSearch"] == "explicit"
    await keep(kept, value_set("http://test/ValueSet/listed", taken("noise"), id="listed"))
    assert await found(kept, "ValueSet?code=noise") == ["listed"]


async def test_displays_in_other_languages_are_judged(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """`validateCode.translations`."""
    assert said["validateCode"] == {"translations": True}
    named = {"url": EXPOSURES, "code": "noise", "display": "Bruit"}
    assert told(await answered(kept, "CodeSystem/$validate-code", named))["result"] is True


async def test_no_map_has_to_be_named(kept: httpx.AsyncClient, said: dict[str, Any]) -> None:
    """`translation.needsMap`."""
    assert said["translation"] == {"needsMap": False}
    assert told(await answered(kept, "ConceptMap/$translate", {"system": EXPOSURES, "code": "noise"}))["result"] is True
