"""What is kept is what was received, byte for byte, but for id, versionId and lastUpdated."""

from datetime import UTC, datetime

import orjson
import pytest

from fhir_server.records.render import instant, renderer, with_links, without_member

AT = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)


def rendered(body: bytes, version: int = 3) -> bytes:
    return renderer(body, "Observation", "o1")(version, AT)


def test_decimals_order_and_escapes_stay_as_they_were() -> None:
    """1.00 is not 1.0 (R4 datatypes#decimal), and an unusual order of members is nobody's fault."""
    body = (
        rb'{"valueQuantity":{"value":1.00,"unit":"\u006dg"},"status":"final",'
        rb'"resourceType":"Observation","code":{"text":"\/"}}'
    )
    assert rendered(body) == (
        rb'{"resourceType":"Observation","id":"o1","meta":{"versionId":"3","lastUpdated":"2026-03-04T05:06:07.089Z"},'
        rb'"valueQuantity":{"value":1.00,"unit":"\u006dg"},"status":"final","code":{"text":"\/"}}'
    )


def test_meta_keeps_what_is_not_ours() -> None:
    """Profiles, tags and extensions of meta stay; version, time and id of the client do not."""
    body = (
        b'{"resourceType":"Observation","id":"his",'
        b'"meta":{"profile":["p"],"versionId":"9","lastUpdated":"2001-01-01T00:00:00Z"}}'
    )
    kept = orjson.loads(rendered(body))
    assert kept == {
        "resourceType": "Observation",
        "id": "o1",
        "meta": {"versionId": "3", "lastUpdated": "2026-03-04T05:06:07.089Z", "profile": ["p"]},
    }


def test_instants_have_milliseconds_and_utc() -> None:
    """Also when there are none."""
    assert instant(AT.replace(microsecond=0)) == "2026-03-04T05:06:07.000Z"


def test_links_become_what_they_were_resolved_to() -> None:
    """In references, urls and narrative links; known ones only."""
    body = (
        b'{"subject":{"reference":"urn:uuid:a"},"content":[{"attachment":{"url" : "urn:uuid:b"}}],'
        rb'"text":{"div":"<a href=\"urn:uuid:a\">x<\/a>"},"other":{"reference":"urn:uuid:c"}}'
    )
    linked = orjson.loads(with_links(body, {"urn:uuid:a": "Patient/1", "urn:uuid:b": "Binary/2"}))
    assert linked["subject"]["reference"] == "Patient/1"
    assert linked["content"][0]["attachment"]["url"] == "Binary/2"
    assert linked["text"]["div"] == '<a href="Patient/1">x</a>'
    assert linked["other"]["reference"] == "urn:uuid:c"


@pytest.mark.parametrize("name", ["value", "display", "id", "system", "fullUrl"])
def test_what_only_looks_like_a_link_stays(name: str) -> None:
    """An identifier whose value is the fullUrl of an entry is an identifier (R4 http#trules)."""
    body = b'{"identifier":[{"%s":"urn:uuid:a"}]}' % name.encode()
    assert with_links(body, {"urn:uuid:a": "Patient/1"}) == body


def test_one_member_is_taken_out_and_the_others_keep_their_bytes() -> None:
    """The data of a Binary goes to the blob store."""
    assert without_member(b'{"a": 1.0, "data":"eA==","b":[ 1 ]}', "data") == b'{"a":1.0,"b":[ 1 ]}'
    assert without_member(b'{"a":1}', "data") == b'{"a":1}'
