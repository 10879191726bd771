"""_content: the words of everything that a resource says, where the operator switched it on."""

from collections.abc import Callable

import httpx
import pytest

from fhir_server.settings import Settings
from tests.support import EVERYTHING, codes, document_reference, found, keep, observation, patient, serving

DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><b>Apte</b> avec r&#233;serve</div>'
KEPT = [
    patient("anne", "MOREL", text={"status": "generated", "div": DIV}),
    document_reference("anne", id="scan", description="Étude de poste, atelier de fonderie"),
    observation("anne", id="heard", note=[{"text": "Perte auditive"}, {"text": "à l'atelier"}], valueString="normal"),
]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(content_search=True)


async def test_words_anywhere_in_a_resource_are_found(fhir_client: httpx.AsyncClient) -> None:
    """Without case and accents; phrases, OR and - as websearch_to_tsquery reads them; markup is no word."""
    await keep(fhir_client, *KEPT)
    for query, expected in [
        ("DocumentReference?_content=etude FONDERIE", ["scan"]),
        ('DocumentReference?_content="etude de poste"', ["scan"]),
        ('DocumentReference?_content="poste etude"', []),
        ("DocumentReference?_content=bureau OR fonderie", ["scan"]),
        ("DocumentReference?_content=etude -fonderie", []),
        ("DocumentReference?_content=application/pdf", ["scan"]),
        ("Observation?_content=auditive", ["heard"]),
        ('Observation?_content="auditive a"', []),  # two strings are no phrase
        ("Patient?_content=reserve", ["anne"]),
        ("Patient?_content=xhtml", []),
        ("Patient?_content=Patient", []),
        ("DocumentReference?patient._content=morel", ["scan"]),
    ]:
        assert await found(fhir_client, query) == expected, query
    await keep(fhir_client, {**KEPT[1], "description": "Étude de bruit"})
    assert await found(fhir_client, "DocumentReference?_content=bruit") == ["scan"]
    assert await found(fhir_client, "DocumentReference?_content=fonderie") == []


async def test_it_is_offered_only_where_it_is_on_and_made_when_it_is_switched_on(
    make_settings: Callable[..., Settings],
) -> None:
    """Off: refused, not in the CapabilityStatement, and no word is kept. On: what is there is found at once."""
    for on in (False, True, False):
        async with serving(make_settings(content_search=on)) as server:
            client = (await server.client(EVERYTHING)).http
            await keep(client, *KEPT)
            statement = (await client.get("/fhir/metadata")).text
            assert ('"name":"_content"' in statement) == on
            ((kept,),) = await server.rows("select count(*) from content")
            if on:
                assert await found(client, "DocumentReference?_content=fonderie") == ["scan"]
                assert kept == 3
            else:
                answer = await client.get("/fhir/DocumentReference?_content=fonderie")
                assert (answer.status_code, codes(answer)) == (400, ["not-supported"])
                assert kept == 0
