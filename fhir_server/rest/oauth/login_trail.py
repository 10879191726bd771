"""Logins and logouts in the trail: User Authentication of IHE ITI-20 (DICOM PS3.15 A.5.3.11).

Who logs in and out, one by one; who fails, so often in a minute, and then counted (`records.failures`).
"""

import secrets
from dataclasses import dataclass
from typing import Final

from fhir_server.caller import Caller
from fhir_server.outcomes import Failure, Forbidden, Unavailable
from fhir_server.records import audit
from fhir_server.records.failures import Failures
from fhir_server.store.access_log import AccessLog

BACK_CHANNEL: Final = "back-channel"


@dataclass(frozen=True, slots=True)
class Logins:
    accesses: AccessLog
    failures: Failures

    async def succeeded(self, caller: Caller) -> None:
        """Kept before he has his session. Raises Unavailable."""
        await self.accesses.append(audit.access(caller, audit.LOGIN, _number()))

    async def ended(self, caller: Caller, reason: str = "person") -> None:
        await self.accesses.append(audit.access(caller, audit.LOGOUT, _number(), query=f"reason={reason}"))

    async def failed(self, failure: Failure) -> None:
        """Nobody is known: what the provider said of him is not kept."""
        reason = "no-role" if isinstance(failure, Forbidden) else "not-proved"
        reason = "provider-away" if isinstance(failure, Unavailable) else reason
        await tell_failure(self.failures, reason)


async def tell_failure(failures: Failures, reason: str, client_id: str | None = None) -> None:
    """A login, of a person or of a program, that failed; `client_id` is whom he said to be, if a name of ours."""
    row = audit.access(None, audit.LOGIN, _number(), outcome=audit.REFUSED, query=f"reason={reason}")
    await failures.tell(row._replace(client_id=client_id), reason)


def _number() -> str:
    """Of a request beside FHIR."""
    return secrets.token_hex(16)
