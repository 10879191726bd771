"""An access token for the other server: OAuth 2.0 client credentials (RFC 6749 section 4.4)."""

import time

from adapters.http import Client

MARGIN = 30.0


class NoToken(Exception):
    """The token endpoint gave none; `later` says whether it may another time."""

    def __init__(self, detail: str, *, later: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.later = later


class ClientCredentials:
    """Fetches a token and keeps it until shortly before its end."""

    def __init__(self, client: Client, url: str, client_id: str, secret: str) -> None:
        self._client = client
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._token = ""
        self._until = 0.0

    async def authorization(self) -> str:
        """The value of the Authorization header. Raises NoToken; network failures pass through."""
        if time.monotonic() >= self._until:
            response = await self._client.post(
                self._url, data={"grant_type": "client_credentials"}, auth=(self._client_id, self._secret)
            )
            if response.status_code != 200:
                raise NoToken(
                    f"The token endpoint answered {response.status_code}",
                    later=response.status_code >= 500 or response.status_code == 429,
                )
            try:
                answer = response.json()
                self._token = str(answer["access_token"])
                self._until = time.monotonic() + float(answer.get("expires_in", 60)) - MARGIN
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise NoToken("The token endpoint answered something that is no token", later=True) from error
        return f"Bearer {self._token}"

    def forget(self) -> None:
        """The server refused the token: fetch another one next time."""
        self._until = 0.0
