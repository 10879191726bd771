"""What does it cost to know who asks? An access token validated, by its algorithm; and one that is remembered.

    python -m bench.tokens [--count 2000] [--json FILE]

Without a network and a database: the keys of the issuer are there, as they are after its first token.
"""

import argparse
import asyncio
import json
import secrets
import statistics
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from fhir_server.rest.authentication import Authentication
from fhir_server.rest.oauth.issuer import Issuer
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.provider import Provider
from fhir_server.rest.oauth.public_keys import Key, published
from fhir_server.rest.oauth.roles import RoleTable

ISSUER, AUDIENCE, RPPS = "https://issuer.example", "https://dmst.example/fhir", "899700218896"
CURVES = {"ES256": "P-256", "ES384": "P-384"}
TABLE = RoleTable.model_validate({
    "second_factor": {"acr": ["eidas1"]},
    "role": [{"role": "medecin-travail", "scopes": ["system/*.rs"], "when": {"SubjectNameID": [RPPS]}}],
})  # fmt: skip


class Known(Provider):
    """An issuer whose keys are there."""

    def __init__(self, public: dict[str, Any]) -> None:
        super().__init__(Outbound(), ISSUER)
        self._here = published(json.dumps({"keys": [public]}).encode())

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        return self._here.fitting(kid, algorithm)


async def measure(algorithm: str, count: int) -> dict[str, Any]:
    key = ECKey.generate_key(CURVES[algorithm]) if algorithm in CURVES else RSAKey.generate_key(2048)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "azp": "app",
        "acr": "eidas1",
        "SubjectNameID": RPPS,
        "scope": "system/*.rs",
    }
    tokens = [
        jwt.encode(
            {"alg": algorithm, "kid": "k"},
            {**claims, "exp": int(time.time()) + 600, "jti": secrets.token_hex(8)},
            key,
            [algorithm],
        )
        for _ in range(count)
    ]
    issuer = Issuer(Known({**key.as_dict(private=False), "kid": "k"}), AUDIENCE, TABLE, Outbound())
    spent = [await _timed(issuer.bearer(token)) for token in tokens]
    authentication = Authentication(None, issuer=issuer)  # pyright: ignore[reportArgumentType]
    header = f"Bearer {tokens[0]}".encode()
    await authentication.caller(header)
    remembered = [await _timed(authentication.caller(header)) for _ in range(count)]
    return {
        "algorithm": algorithm,
        "median_us": round(statistics.median(spent) * 1e6, 1),
        "p99_us": round(statistics.quantiles(spent, n=100)[98] * 1e6, 1),
        "remembered_us": round(statistics.median(remembered) * 1e6, 2),
    }


async def _timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = [
        asyncio.run(measure(algorithm, given.count)) for algorithm in ("RS256", "RS384", "PS256", "ES256", "ES384")
    ]
    for one in results:
        print(one)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
