"""The crash bench sees what it is there to see: its checks find a fault where there is one."""

import pytest

from bench.crash import Round, faults_of_round, faults_of_store, transaction_of
from fhir_server.app import Parts, build
from fhir_server.settings import Settings
from tests.support import EVERYTHING, FHIR_JSON, Server

NAME = "r0-w0-t1"
HARM = {
    "is not there whole": "delete from resource where id = 'r0-w0-t1-o'",
    "index rows without their resource": "delete from resource where id = 'r0-w0-t1-p'",
    "its tokens are not those": "delete from token where rid in (select rid from resource where id = 'r0-w0-t1-o')",
    "its periods are not those": "update period set low = low - 1 where true",
    "histories with a gap": "update resource set version = 3 where id = 'r0-w0-t1-p'",
    "without a row in the trail": "delete from access where resource_id = 'r0-w0-t1-b'",
    "rows were removed": "delete from access where resource_id = 'r0-w0-t1-o'",
    "its bytes are not those": "update resource set blob_sha256 = null where id = 'r0-w0-t1-b'",
}


async def faults(parts: Parts) -> str:
    one = Round(0, sent={NAME}, acknowledged={NAME})
    return "\n".join(await faults_of_round(parts, one) + await faults_of_store(parts))


@pytest.mark.parametrize("told", HARM)
async def test_what_a_crash_could_do_is_told(server: Server, settings: Settings, told: str) -> None:
    """Nothing is wrong with what was just written; with one row taken away something is."""
    client = (await server.client(EVERYTHING)).http
    headers = {**FHIR_JSON, "x-request-id": NAME}
    answer = await client.post("/fhir", content=transaction_of(NAME, 0), headers=headers)
    assert answer.status_code == 200
    async with build(settings) as parts:
        assert await faults(parts) == ""
        await (server.as_owner if "access" in HARM[told] else server.rows)(HARM[told])
        assert told in await faults(parts)
