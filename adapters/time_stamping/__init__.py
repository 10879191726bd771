"""A time-stamping authority over HTTP: https://www.rfc-editor.org/rfc/rfc3161 section 3.4.

Only the digest leaves. The answer is checked for being one to our question; whether its signer is trusted is for the
caller to say.
"""

import secrets
from typing import Any

from asn1crypto import algos, tsp

from adapters.http import LATER, Client, NetworkFailure, make_client, retry_after
from fhir_server.ports import Refused, Stamped, TryLater

TIMEOUT = 20.0
NONCE_BITS = 63


class TimeStampingService:
    """Asks one authority, under one policy where it is named. A user and a password may stand in the URL."""

    def __init__(self, url: str, *, policy: str | None = None, client: Client | None = None) -> None:
        self._url = url
        self._policy = policy
        self._client = client or make_client(timeout=TIMEOUT)

    async def stamp(self, sha256: bytes) -> Stamped | Refused | TryLater:
        """A token on this digest, with the certificate of its signer."""
        nonce = secrets.randbits(NONCE_BITS)
        asked = {
            "version": "v1",
            "message_imprint": {
                "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}),
                "hashed_message": sha256,
            },
            "nonce": nonce,
            "cert_req": True,
            **({"req_policy": self._policy} if self._policy else {}),
        }
        headers = {"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"}
        try:
            answer = await self._client.post(self._url, content=tsp.TimeStampReq(asked).dump(), headers=headers)
        except NetworkFailure:
            return TryLater("authority-unreachable", "The time-stamping authority cannot be reached")
        if answer.status_code in LATER:
            return TryLater("authority-busy", f"It answered with status {answer.status_code}", retry_after(answer))
        if answer.status_code != 200:
            return Refused("authority-refuses", f"It answered with status {answer.status_code}")
        try:
            problem = self._problem(answer.content, sha256, nonce)
        except Exception:  # the ASN.1 parser is lazy: garbage surfaces anywhere, as any exception
            problem = "It answered with something that is no time stamp"
        return Refused("no-time-stamp", problem) if problem else Stamped(_token(answer.content))

    async def close(self) -> None:
        await self._client.aclose()

    def _problem(self, content: bytes, sha256: bytes, nonce: int) -> str | None:
        """Why it is no answer to our question, None where it is one (RFC 3161 section 2.4.2)."""
        status: Any = tsp.PKIStatusInfo.load(_sequence(content)[0].dump())
        if status["status"].native not in {"granted", "granted_with_mods"}:
            return "It grants no time stamp"
        answer: Any = tsp.TimeStampResp.load(content, strict=True)
        info = answer["time_stamp_token"]["content"]["encap_content_info"]["content"].parsed
        imprint = info["message_imprint"]
        if imprint["hash_algorithm"]["algorithm"].native != "sha256" or imprint["hashed_message"].native != sha256:
            return "The time stamp is on something else"
        if info["nonce"].native != nonce:
            return "The time stamp is an answer to another question"
        if self._policy and info["policy"].dotted != self._policy:
            return "The time stamp is under another policy"
        return None


def _sequence(content: bytes) -> Any:
    from asn1crypto import core

    return core.Sequence.load(content, strict=True)


def _token(content: bytes) -> bytes:
    answer: Any = tsp.TimeStampResp.load(content, strict=True)
    return answer["time_stamp_token"].dump()
