"""Documents to the occupational-health software over FHIR: IHE ITI-65 Provide Document Bundle, PDSm flavour.

https://profiles.ihe.net/ITI/MHD/ITI-65.html - the transaction creates on condition, the Binary is put under its
own id, and the same envelope makes the same Bundle: told twice, the other server holds one document.
"""

from collections.abc import Mapping
from typing import Any

import orjson
import pybase64
from pydantic import ValidationError

from adapters.http import LATER, Client, NetworkFailure, Response, retry_after
from adapters.sante_travail.access import ClientCredentials, NoToken
from fhir_server.ports import Answer, Envelope, HandedOver, Refused, TryLater
from mappings.provide_document_bundle import build
from mappings.submission import source_oid, submission_oid

FHIR_JSON = "application/fhir+json"
Resource = Mapping[str, Any]


class FhirChannel:
    """Sends to one FHIR server. `inline`: documents of at most so many bytes travel inside the transaction."""

    def __init__(
        self,
        client: Client,
        base_url: str,
        *,
        access: ClientCredentials | None = None,
        inline: int,
        supersede: bool = True,
    ) -> None:
        self._client = client
        self._base = base_url
        self._access = access
        self._inline = inline
        self._supersede = supersede

    async def send(self, envelope: Envelope) -> Answer:
        try:
            small = envelope.content.size <= self._inline
            if not small:
                put = await self._put_content(envelope)
                if put.status_code not in (200, 201):
                    return self._refusal(put)
            bundle = await self._bundle(envelope, inline=small)
            _check(bundle)
            response = await self._post(bundle)
        except NoToken as none:
            return TryLater("token", none.detail) if none.later else Refused("token", none.detail)
        except NetworkFailure as failure:
            return TryLater("network", f"The server could not be reached ({type(failure).__name__})")
        except ValueError as error:
            return Refused("not-publishable", str(error))
        if response.status_code in (200, 201):
            return HandedOver(_location(response))
        return self._refusal(response)

    async def close(self) -> None:
        await self._client.aclose()

    async def _headers(self, media_type: str) -> dict[str, str]:
        headers = {"content-type": media_type, "accept": FHIR_JSON}
        if self._access:
            headers["authorization"] = await self._access.authorization()
        return headers

    async def _put_content(self, envelope: Envelope) -> Response:
        """A large document first, as a stream of raw bytes under its own id."""
        return await self._client.put(
            f"{self._base}/Binary/{_binary_id(envelope)}",
            content=envelope.content.chunks(),
            headers={**await self._headers(envelope.content.media_type), "content-length": str(envelope.content.size)},
        )

    async def _bundle(self, envelope: Envelope, *, inline: bool) -> Resource:
        data = None
        if inline:
            data = pybase64.b64encode(b"".join([chunk async for chunk in envelope.content.chunks()])).decode()
        document_reference = envelope.document_reference
        return build(
            document_reference,
            envelope.patient,
            data,
            _binary_id(envelope),
            submission_oid=submission_oid(envelope.delivery_id),
            source_id=source_oid(document_reference),
            now=envelope.created_at,
            custodian=envelope.related[document_reference["custodian"]["reference"]],
            practitioner=next((r for n, r in envelope.related.items() if n.startswith("Practitioner/")), None),
            replaces_oid=_replaced(envelope) if self._supersede else None,
        )

    async def _post(self, bundle: Resource) -> Response:
        return await self._client.post(self._base, content=orjson.dumps(bundle), headers=await self._headers(FHIR_JSON))

    def _refusal(self, response: Response) -> Answer:
        """What a status means. The text of an answer may quote the document: only issue codes are kept."""
        status = response.status_code
        if status == 401 and self._access:
            self._access.forget()
            return TryLater("token", "The server refused the access token")
        if status in LATER:
            return TryLater(f"http-{status}", f"The server answered {status}", retry_after(response))
        return Refused(
            f"http-{status}", f"The server answered {status} ({', '.join(_issue_codes(response)) or 'no reason'})"
        )


def _check(bundle: Resource) -> None:
    """A second opinion, by models that are not ours, before anything leaves. Raises ValueError naming places only."""
    from fhir.resources.R4B.bundle import Bundle  # a second to import: the worker pays it at the first document

    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in fault["loc"]) for fault in error.errors()})
        raise ValueError(f"The Bundle is not valid FHIR at {', '.join(places[:5])}") from None


def _binary_id(envelope: Envelope) -> str:
    return envelope.document_reference["content"][0]["attachment"]["url"].removeprefix("Binary/")


def _replaced(envelope: Envelope) -> str | None:
    """The uniqueId of the document that this one replaces, where the core sent it along."""
    for relation in envelope.document_reference.get("relatesTo", []):
        if relation["code"] == "replaces":
            before = envelope.related.get(relation["target"]["reference"])
            return before["masterIdentifier"]["value"] if before else None
    return None


def _location(response: Response) -> str | None:
    """Where the other server put the DocumentReference, out of a transaction-response in the order of the request."""
    try:
        entries = response.json().get("entry", [])
        return next(
            location
            for entry in entries
            if "DocumentReference/" in (location := entry.get("response", {}).get("location", ""))
        )
    except (ValueError, AttributeError, StopIteration):
        return None


def _issue_codes(response: Response) -> list[str]:
    try:
        issues = response.json().get("issue", [])
        return sorted({str(issue["code"])[:40] for issue in issues if issue.get("severity") in ("error", "fatal")})
    except (ValueError, AttributeError, KeyError, TypeError):
        return []
