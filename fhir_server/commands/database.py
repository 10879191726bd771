"""`dmst-fhir migrate`, `search-parameters`: the schema, and what is indexed in it."""

from fhir_server.commands.running import Data, out, parts_of, run_to_end, settings_of, table_of


def migrate(data: Data = None) -> None:
    """Bring the database schema to the newest version and say what was applied."""
    settings = settings_of(data)

    async def run() -> None:
        async with parts_of(settings):
            out.print("The schema is up to date.")

    run_to_end(run)


def search_parameters(data: Data = None) -> None:
    """List the search parameters that were added, and how far their indexing is."""
    settings = settings_of(data)

    async def run() -> None:
        table = table_of("number", "code", "types", "type", "state", "indexed", "SearchParameter")
        async with parts_of(settings) as parts:
            for one in await parts.parameters.listed():
                of, definition = f"{one.done}/{one.of}", one.definition
                bases = " ".join(definition.bases)
                named = f"SearchParameter/{one.resource_id}"
                table.add_row(str(one.number), definition.code, bases, definition.type, one.state, of, named)
        out.print(table)

    run_to_end(run)
