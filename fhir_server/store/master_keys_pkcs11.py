"""Master keys in a device that speaks PKCS#11 (an HSM): they are made in it and never leave it.

https://docs.oasis-open.org/pkcs11/pkcs11-curr/v2.40/ section 2.12.3, CKM_AES_GCM. The keys are AES-256, labelled
`dmst-fhir/TENANT/ID`, sensitive and not extractable. A device is asked by one thread at a time.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11.exceptions import (
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    FunctionFailed,
    GeneralError,
    PKCS11Error,
)

from fhir_server.outcomes import Unavailable
from fhir_server.store.master_keys import NONCE, missing, new_id, not_opened

Result = TypeVar("Result")
TAG_BITS = 128
NOT_OPENED = (EncryptedDataInvalid, EncryptedDataLenRange, FunctionFailed, GeneralError)
"""What devices say of a tag that does not hold; they do not agree on it."""


class DeviceKeys:
    """The keys of one tenant in one token (`fhir_server.ports.MasterKeys`)."""

    def __init__(self, module: Path, token: str, pin: str | None, *, tenant: int) -> None:
        self._module, self._token, self._pin = str(module), token, pin
        self._labels = f"dmst-fhir/{tenant}/"
        self._session: Any = None
        self._handles: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(1, "master-keys")

    def __repr__(self) -> str:
        return f"DeviceKeys({self._token!r})"

    async def ids(self) -> Sequence[str]:
        return await self._asking(lambda: sorted(self._found()))

    async def make(self) -> str:
        def work() -> str:
            key_id = new_id()
            self._opened().generate_key(
                pkcs11.KeyType.AES,
                256,
                label=self._labels + key_id,
                store=True,
                capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
                template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
            )
            return key_id

        return await self._asking(work)

    async def forget(self, key_id: str) -> None:
        def work() -> None:
            self._found().pop(key_id).destroy()

        await self._asking(work)

    async def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        def work() -> bytes:
            nonce = secrets.token_bytes(NONCE)
            given = pkcs11.GCMParams(nonce, context, TAG_BITS)
            return nonce + self._key(key_id).encrypt(secret, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=given)

        return await self._asking(work)

    async def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        def work() -> bytes:
            given = pkcs11.GCMParams(wrapped[:NONCE], context, TAG_BITS)
            key = self._key(key_id)
            try:
                return key.decrypt(wrapped[NONCE:], mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=given)
            except NOT_OPENED:
                raise not_opened(key_id) from None

        return await self._asking(work)

    def close(self) -> None:
        def work() -> None:
            if self._session is not None:
                self._session.close()

        self._thread.submit(work)
        self._thread.shutdown()

    async def _asking(self, work: Callable[[], Result]) -> Result:
        """In a thread of its own; a session that the device ended is opened once more."""

        def once_more() -> Result:
            try:
                return work()
            except PKCS11Error:
                self._session, self._handles = None, {}
                return work()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, once_more)
        except (PKCS11Error, RuntimeError) as error:  # RuntimeError: there is no such library
            raise Unavailable(f"The device of the master keys does not answer: {type(error).__name__}") from None

    def _opened(self) -> Any:
        if self._session is None:
            token = pkcs11.lib(self._module).get_token(token_label=self._token)
            self._session = token.open(rw=True, user_pin=self._pin)
        return self._session

    def _found(self) -> dict[str, Any]:
        asked = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}
        self._handles = {
            key.label.removeprefix(self._labels): key
            for key in self._opened().get_objects(asked)
            if key.label.startswith(self._labels)
        }
        return self._handles

    def _key(self, key_id: str) -> Any:
        key = self._handles.get(key_id) or self._found().get(key_id)
        if key is None:
            raise missing(key_id)
        return key
