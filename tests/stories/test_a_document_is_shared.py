"""A foreign Document Source provides a document, a Document Consumer finds and retrieves it, the source replaces it.

IHE MHD ITI-65, ITI-66, ITI-67 and ITI-68 as PDSm has them, each actor with the scopes of its own task.
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from terminology import systems
from tests.sharing import PDF, SOURCE, provide, replaces
from tests.support import Caller, Resource, found, in_folder, keep, post

Make = Callable[..., Awaitable[Caller]]
NEW = PDF + b"%corrected\n"
WHO = "patient.identifier=urn:test:folder|100000101"


@pytest.fixture
async def source(client_with: Make, fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """It provides and replaces; it reads nothing. The workers are known here."""
    await keep(fhir_client, in_folder("100000101", id="p"), in_folder("100000102", id="q"))
    scopes = ("system/List.cs", "system/DocumentReference.cus", "system/Binary.c")
    return (await client_with(*scopes, name="Logiciel du cabinet")).http


@pytest.fixture
async def consumer(client_with: Make) -> httpx.AsyncClient:
    """It searches and reads; it writes nothing."""
    scopes = ("system/List.rs", "system/DocumentReference.rs", "system/Binary.r", "system/Patient.s")
    return (await client_with(*scopes, name="Logiciel du service")).http


async def only(client: httpx.AsyncClient, query: str) -> Resource:
    """The one match of a search."""
    answer = await client.get(f"/fhir/{query}")
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["entry"]
    return one["resource"]


async def retrieved(client: httpx.AsyncClient, fiche: Resource) -> bytes:
    """ITI-68: what the url of the attachment gives."""
    answer = await client.get(f"/fhir/{fiche['content'][0]['attachment']['url']}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    return answer.content


async def test_provided_found_retrieved_replaced(source: httpx.AsyncClient, consumer: httpx.AsyncClient) -> None:
    """Byte for byte, and what is superseded is no longer found among what is current."""
    assert (await post(source, provide(1))).status_code == 200
    assert (await post(source, provide(5, "Patient/q"))).status_code == 200

    lot = await only(consumer, f"List?{WHO}&code=submissionset&status=current&sourceId={SOURCE}&designationType=07")
    fiche = await only(
        consumer,
        f"DocumentReference?{WHO}&status=current&type={systems.LOINC}|11488-4&setting=AMBULATOIRE&facility=SA13"
        "&creation=ge2026-03&period-start=2026-03-02&security-label=N&format=urn:ihe:iti:xds-sd:pdf:2008"
        "&author.family=exemple&author-given=dominique",
    )
    assert lot["entry"][0]["item"]["reference"] == f"DocumentReference/{fiche['id']}"
    assert await retrieved(consumer, fiche) == PDF

    answer = await post(source, provide(2, content=NEW, **replaces({"reference": f"DocumentReference/{fiche['id']}"})))
    assert answer.status_code == 200, answer.text
    assert "resource" not in answer.json()["entry"][1], "the source may not read what it provides"

    current = await only(consumer, f"DocumentReference?{WHO}&status=current")
    assert current["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{fiche['id']}"}}]
    assert await retrieved(consumer, current) == NEW
    assert await found(consumer, f"DocumentReference?{WHO}&status=superseded") == [fiche["id"]]
    assert await found(consumer, f"DocumentReference?relatesto=DocumentReference/{fiche['id']}") == [current["id"]]
    assert await retrieved(consumer, fiche) == PDF, "what was superseded can still be shown"


async def test_each_actor_has_the_rights_of_its_task_only(
    source: httpx.AsyncClient, consumer: httpx.AsyncClient
) -> None:
    """The source retrieves nothing, the consumer provides nothing."""
    answer = await post(source, provide(1))
    content = answer.json()["entry"][2]["response"]["location"].partition("/fhir/")[2].partition("/_history")[0]
    assert (await source.get(f"/fhir/{content}")).status_code == 403
    assert (await post(consumer, provide(2))).status_code == 403
    assert (await consumer.get(f"/fhir/{content}")).content == PDF
