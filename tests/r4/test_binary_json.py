"""The data of a Binary is taken out of its JSON while that arrives, however it is cut into pieces."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.outcomes import BadSyntax, Failure, InvalidResource, TooLarge
from fhir_server.r4.binary_json import LARGEST_REST, PLACEHOLDER, DataStream


def taken_out(document: bytes, *sizes: int) -> tuple[bytes, DataStream]:
    """The content of a document that arrives in pieces of these sizes, over and over."""
    stream = DataStream()
    content, at, turn = b"", 0, 0
    while at < len(document):
        size = sizes[turn % len(sizes)] if sizes else len(document)
        content += stream.feed(document[at : at + size])
        at, turn = at + size, turn + 1
    return content + stream.end(), stream


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("data"), inner, max_size=3),
    max_leaves=8,
)


@given(
    before=st.dictionaries(st.text().filter(lambda name: name != "data"), values, max_size=3),
    after=st.dictionaries(st.text().filter(lambda name: name != "data"), values, max_size=3),
    data=st.binary(min_size=1, max_size=20_000),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=4),
    escaped=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_any_document_in_any_pieces(
    before: dict[str, Any], after: dict[str, Any], data: bytes, sizes: list[int], escaped: bool, indent: int | None
) -> None:
    """The content is that of the top-level data, and the rest is the document with a placeholder in its place."""
    whole = {**before, "data": base64.b64encode(data).decode()}
    whole |= {name: value for name, value in after.items() if name not in whole}
    document = json.dumps(whole, indent=indent, ensure_ascii=escaped).encode()
    if escaped:
        document = document.replace(b"/", b"\\/")
    content, stream = taken_out(document, *sizes)
    assert content == data
    assert json.loads(stream.rest) == {**whole, "data": PLACEHOLDER.decode()}


@given(document=st.binary(max_size=300) | values.map(json.dumps).map(str.encode), size=st.integers(1, 50))
def test_what_has_no_data_comes_back_as_it_is(document: bytes, size: int) -> None:
    """Also where it is no JSON at all: whoever parses it says so."""
    try:
        content, stream = taken_out(document, size)
    except Failure:
        return
    if not stream.found:
        assert (content, stream.rest) == (b"", document)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (b'{"data" : "QUJD"}', b"ABC"),
        (b'{"\\u0064ata":"QUI="}', b"AB"),
        (b'{"data":"QU\\r\\nJD  RA\\u003d="}', b"ABCD"),
        (b'{"data":" "}', b""),
        (b'{"a":{"data":"####"},"data":"QQ=="}', b"A"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_way_to_write_it(text: bytes, content: bytes, size: int) -> None:
    """White space, escapes and a `data` that belongs to something else."""
    found, stream = taken_out(text, size)
    assert (found, stream.found) == (content, True)


@pytest.mark.parametrize(
    "data", ["####", "AAA", "AA==AAAA", "A===", "====", "AAAA=", "\\u00e9AAA", "AA\\", "AA\\qA", "AAAA\n"]
)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_base64_that_is_none(data: str, size: int) -> None:
    """At the place where it stands; a quotation mark behind a backslash is none of base64 either."""
    with pytest.raises(InvalidResource) as refused:
        taken_out(b'{"data":"%s","id":"x"}' % data.encode(), size)
    assert refused.value.issues[0].expression == "Binary.data"


def test_data_that_is_there_twice() -> None:
    """Which one would count is not for us to say."""
    for text in (b'{"data":"QQ==","data":"QQ=="}', b'{"data":"QQ==","id":"x","data":""}'):
        with pytest.raises(BadSyntax):
            taken_out(text, 3)


@pytest.mark.parametrize("text", [b'{"data":5}', b'{"data":null}', b'{"data":{}}', b'["data","x"]', b'{"data":""}'])
def test_data_that_is_no_text_is_left_to_the_validation(text: bytes) -> None:
    """Nothing is taken out of it; an empty text stays empty."""
    assert taken_out(text, 1)[1].rest == text


def test_only_the_data_may_be_large() -> None:
    """A million bytes beside it are refused, and one text without end too."""
    for text in (
        b'{"id":"' + b"x" * LARGEST_REST * 2,
        b"[" * LARGEST_REST * 2,
        b'{"data":"QQ==","x":"' + b"x" * LARGEST_REST,
    ):
        with pytest.raises(TooLarge):
            taken_out(text, 65_536)
