"""A provider that is away: what it said last counts for a while, and it is not asked by everybody in turn."""

import asyncio
from typing import Any

import pytest

from fhir_server.outcomes import Unavailable
from fhir_server.rest.oauth.outbound import Outbound
from fhir_server.rest.oauth.provider import HOUR, PAUSE, Provider

ISSUER = "https://login.example"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Network(Outbound):
    """The way to a provider that can be away; `asked` counts."""

    def __init__(self) -> None:
        self.away, self.asked = False, 0

    async def get_json(self, url: str, *, bearer: str | None = None) -> Any:
        assert url == f"{ISSUER}/.well-known/openid-configuration"
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("It does not answer")
        return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}


async def test_the_last_description_counts_for_an_hour_more() -> None:
    """Else tokens and logins would fail at the first minute of an outage, if the hour is over just then."""
    network, clock = Network(), Clock()
    provider = Provider(network, ISSUER, clock=clock)
    described = await provider.described()
    network.away = True
    clock.now += HOUR + 1
    assert await provider.described() == described
    clock.now += HOUR
    with pytest.raises(Unavailable, match="does not answer"):
        await provider.described()
    network.away = False
    clock.now += PAUSE
    assert await provider.described() == described


async def test_a_provider_that_is_away_is_asked_once_for_all_who_wait() -> None:
    """Each attempt may take five seconds: in turn, fifty requests would wait for minutes."""
    network, clock = Network(), Clock()
    provider = Provider(network, ISSUER, clock=clock)
    network.away = True
    told = await asyncio.gather(*(provider.described() for _ in range(50)), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in told)
    assert network.asked == 1
