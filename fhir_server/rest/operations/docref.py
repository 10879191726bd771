"""$docref: the documents of a person, for those who do not know this server.

http://hl7.org/fhir/us/core/OperationDefinition/docref (8.0.0; International Patient Access has the same) - existing
documents only, none made on demand. The call becomes the search that it stands for: its rights, trail and pages.
"""

from typing import Any, Final
from urllib.parse import urlencode

from fhir_server.outcomes import BadParameter
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.operations.operation import Arguments, Operation, arguments
from fhir_server.rest.search import search
from fhir_server.rest.service import Service

NAMES: Final = ("patient", "start", "end", "type", "on-demand", "profile", "_count")
SEVERAL: Final = frozenset({"type", "profile"})
# No document is made on demand: a search that finds nothing, and yet asks for the same rights.
NOTHING: Final = ("_id", "-")


async def docref(exchange: Exchange, service: Service) -> Answer:
    """GET or POST DocumentReference/$docref: a Bundle of DocumentReferences, newest first, with links as a search."""
    pairs = _search_of(await arguments(exchange, service, *NAMES))
    scope = {"method": "GET", "headers": list(exchange.headers.items()), "query_string": urlencode(pairs).encode()}
    inner = Exchange(scope, None, exchange.segments[:1])
    inner.caller, inner.request_id = exchange.caller, exchange.request_id
    return await search(inner, service)


def _search_of(given: Arguments) -> list[tuple[str, str]]:
    """The arguments as a search on DocumentReference. Raises BadParameter."""
    for name, found in given.items():
        if len(found) > 1 and name not in SEVERAL:
            raise BadParameter(f"{name} is given once", expression=name)
    if "patient" not in given:
        raise BadParameter("patient is the id of a Patient, and is needed", expression="patient")
    pairs = [("patient", str(given["patient"][0]).removeprefix("Patient/")), ("status", "current"), ("_sort", "-date")]
    # Documents rarely say when care ended: a period that is open would meet every later range.
    for name, prefix in (("start", "ge"), ("end", "le")):
        pairs += [("period-start", prefix + str(one)) for one in given.get(name, ())]
    for name, parameter in (("type", "type"), ("profile", "format")):
        if name in given:
            pairs.append((parameter, ",".join(_token(one, name) for one in given[name])))
    if str(given.get("on-demand", ["false"])[0]).lower() == "true":
        pairs.append(NOTHING)
    return pairs + [("_count", str(one)) for one in given.get("_count", ())]


def _token(value: Any, name: str) -> str:
    """A Coding, or the text of one, as the value of a token parameter."""
    if isinstance(value, dict):
        code, system = value.get("code"), value.get("system")
        if not code:
            raise BadParameter(f"{name} is a Coding with a code", expression=name)
        value = f"{system}|{code}" if system else code
    return str(value).replace("\\", "\\\\").replace(",", "\\,")


DOCREF = Operation(
    "$docref",
    "http://hl7.org/fhir/us/core/OperationDefinition/docref",
    docref,
    frozenset({"type"}),
    frozenset({"DocumentReference"}),
)
