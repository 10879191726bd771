"""Who holds a token, however that was found out."""

from typing import NamedTuple

from fhir_server.caller import Caller
from fhir_server.rest.standings import NOTHING_CLAIMED, Claims


class Bearer(NamedTuple):
    """The holder, the end of the token (as `time.time`), and SHA-256 of the certificate that must come with it."""

    caller: Caller
    expires: float
    certificate: bytes | None = None
    claims: Claims = NOTHING_CLAIMED
