"""An attempt that ends in an error of ours is an attempt: nothing is tried for ever.

docs/adr/0004: the delivery says so itself, where the operator and the Task see it.
"""

from fhir_server.app import Parts
from fhir_server.settings import Settings
from tests.stories.support import Provider, count, process, running_service, until

GIVEN_UP = "delivery where state = 'refused' and reason = 'gave-up' and recipient = 'logiciel-metier'"


async def test_a_document_without_content_is_given_up_after_the_attempts_of_the_settings(
    world: Settings, provider: Provider
) -> None:
    """Each attempt fails before anything is sent; after two the delivery is settled, and no job of it is left."""
    few = world.model_copy(update={"retry_attempts": 2, "stalled_seconds": 0.6})
    async with running_service(few) as service:
        await service.lots.receive(provider.lot("100000101"))
        waiting = await count(service, "delivery where recipient = 'logiciel-metier'")
        async with service.database.connection() as connection:
            await connection.execute(b"update resource set blob_sha256 = null, blob_size = null")
        with process(few, "work"):
            await until(lambda: given_up(service, waiting), "every delivery is given up")
            await until(lambda: no_job_is_left(service), "the jobs have ended")
        assert await count(service, "delivery where attempts > 3") == 0


async def given_up(service: Parts, waiting: int) -> bool:
    return await count(service, GIVEN_UP) == waiting


async def no_job_is_left(service: Parts) -> bool:
    return await count(service, "procrastinate_jobs") == 0
