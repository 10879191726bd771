"""How the token endpoint says no: RFC 6749 section 5.2, as JSON, never kept by a cache."""

from typing import Final

from fastapi.responses import JSONResponse

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class OAuthError(Exception):
    """A token request that is refused. `description` says why where that tells nobody which clients there are."""

    def __init__(self, status: int, code: str, description: str = "", *, headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.description = description
        self.headers = headers or {}

    def answer(self) -> JSONResponse:
        described = {"error_description": self.description} if self.description else {}
        return JSONResponse({"error": self.code, **described}, self.status, headers={**NO_STORE, **self.headers})
