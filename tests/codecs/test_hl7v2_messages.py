"""Bytes and messages: tolerant in reading, strict in writing, never another failure than our own."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.codecs.hl7v2.failures import MessageRefused, Place
from adapters.codecs.hl7v2.message import Message, Segment, repetition, segment, trimmed
from adapters.codecs.hl7v2.reading import Limits, parse
from adapters.codecs.hl7v2.writing import write
from tests.codecs.hl7v2_samples import names, sample

HEADER = b"MSH|^~\\&|A|B|C|D|2026||ADT^A08^ADT_A01|7|P|2.5|||||FRA|UNICODE UTF-8"


def of(lines: bytes, header: bytes = HEADER) -> Message:
    return parse(header + b"\r" + lines)


def refused(content: bytes, limits: Limits | None = None) -> MessageRefused:
    with pytest.raises(MessageRefused) as caught:
        parse(content, limits) if limits else parse(content)
    return caught.value


@pytest.mark.parametrize("name", names(""))
def test_every_sample_is_read_and_written_back_the_same(name: str):
    message = parse(sample(name))
    assert message.type in {"ACK", "ADT", "MDM", "ORU", "ZAM"}
    assert message.control_id
    written = write(message)
    assert b"\n" not in written
    assert parse(written) == message


def test_the_header_is_named():
    message = parse(HEADER[:-13] + b"UNICODE UTF-8|FR||2.11^IHE_FRANCE-2.11-PAM")
    assert (message.type, message.event, message.structure) == ("ADT", "A08", "ADT_A01")
    assert (message.control_id, message.processing_id, message.version) == ("7", "P", "2.5")
    assert message.profile == ("2.11", "IHE_FRANCE-2.11-PAM")


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_any_end_of_line_ends_a_segment(end: bytes):
    message = parse(end.join([b"", HEADER, b"", b"  EVN||1", b"PID|||x", b"", b""]))
    assert [one.name for one in message.segments] == ["MSH", "EVN", "PID"]


def test_base64_wrapped_with_line_feeds_is_one_value_where_cr_ends_segments():
    message = of(b"OBX|1|ED|||^^^Base64^QUJD\nREVG\r\nNTE|1\nNTE|2\r")
    assert message.segments[1].value(5, 5) == "QUJD\nREVG"
    assert [one.value(1) for one in message.named("NTE")] == ["1", "2"]


def test_spaces_empty_repetitions_and_the_null_value():
    pid = of(b'PID||| 12 ^^^ A &1.2 ~~34|""|~|SB^\r').segments[1]
    assert (pid.value(3), pid.value(3, 4, 1), pid.value(3, 4, 2)) == ("12", "A", "1.2")
    assert [len(one) for one in pid.field(3)] == [4, 0, 1]
    assert pid.is_null(4)
    assert pid.value(4) == ""
    assert pid.field(5) == ()
    assert pid.value(6, 2) == ""
    assert pid.value(99, 9, 9, 9) == ""


def test_other_delimiters_are_those_that_the_header_declares():
    header = "MSH#*˜!%#A#B#C#D#2026##ADT*A08#7#P#2.5######UNICODE UTF-8\r".encode()
    message = parse(header + "PID###1*a%b˜2|x!F!".encode())
    assert message.event == "A08"
    assert message.segments[1].field(3) == (repetition("1", ("a", "b")), repetition("2|x#"))


def test_escapes_are_read():
    value = of(rb"NTE|1||\F\\S\\T\\R\\E\a\.br\b\XC3A9\\H\c\N\d\Xzz\e\Zunknown\ ".strip() + b"\r").segments[1].value(3)
    assert value == "|^&~\\a\nbécd\\Xzz\\e\\Zunknown\\"


@pytest.mark.parametrize(("charset", "encoding"), [("8859/15", "iso8859-15"), ("UNICODE UTF-8", "utf-8")])
def test_the_character_set_is_that_of_msh_18(charset: str, encoding: str):
    header = HEADER.replace(b"UNICODE UTF-8", charset.encode())
    message = parse(header + b"\rNTE|1||" + "œuvre à 5 €".encode(encoding))
    assert message.segments[1].value(3) == "œuvre à 5 €"
    assert "œuvre à 5 €".encode(encoding) in write(message)


def test_a_character_that_8859_15_cannot_hold_is_refused_with_its_place():
    message = parse(HEADER.replace(b"UNICODE UTF-8", b"8859/15"))
    ill = Message((message.header, segment("NTE", {1: "1"}), segment("NTE", {1: "2", 3: "’"})))
    with pytest.raises(MessageRefused) as caught:
        write(ill)
    assert [(one.condition, one.place) for one in caught.value.faults] == [("102", Place("NTE", 2, 3))]


@pytest.mark.parametrize(
    ("content", "condition"),
    [
        (b"", "100"),
        (b"PID|1", "100"),
        (b"MSH", "100"),
        (b"MSH|^~\\&", "102"),
        (b"MSH|^^\\&|A", "102"),
        (b"MSHa^~\\&aA", "100"),
        (HEADER.replace(b"UNICODE UTF-8", b"UTF-7"), "103"),
        (HEADER + b"\rNTE|1||\xe9", "102"),
        (HEADER + b"\rpid|1", "100"),
        (HEADER + b"\r" + HEADER, "100"),
    ],
)
def test_what_is_no_message_is_refused_by_its_code(content: bytes, condition: str):
    assert [one.condition for one in refused(content).faults] == [condition]


@pytest.mark.parametrize("tail", [b"\rpid|1", b"\rNTE|1||\xe9"])
def test_a_refusal_brings_the_header_for_the_answer(tail: bytes):
    header = refused(HEADER + tail).header
    assert header is not None
    assert header.control_id == "7"


def test_size_and_parts_are_limited():
    assert refused(HEADER + b"\r" + b"x" * 100, Limits(size=100)).faults[0].condition == "199"
    assert refused(HEADER + b"\rNTE|" + b"^" * 200, Limits(parts=200)).faults[0].condition == "199"
    assert refused(HEADER + b"|" * 3000).faults[0].condition == "199"


@pytest.mark.parametrize("unit", [b"\\", b"\\X", b"\r", b"\n", b" ", b"NTE|1\n", b"\\F\\", b"\n\r", b"\\X41\\"])
def test_no_text_takes_more_time_than_its_length(unit: bytes):
    began = time.process_time()
    with contextlib.suppress(MessageRefused):
        parse(HEADER + b"\rNTE|1||" + unit * (1_000_000 // len(unit)))
    assert time.process_time() - began < 5


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: HEADER + tail))
def test_nothing_but_a_refusal_comes_out_of_any_bytes(content: bytes):
    try:
        parse(content)
    except MessageRefused as failure:
        assert failure.faults


@settings(max_examples=300, deadline=None)
@given(st.text("MSH|^~\\&\r\nPID1 ~XF.br8/5é˜", max_size=80))
def test_nothing_but_a_refusal_comes_out_of_what_looks_like_a_message(text: str):
    try:
        parse(b"MSH|" + text.encode())
    except MessageRefused as failure:
        assert failure.faults


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COMPONENTS = st.lists(VALUES, max_size=3).map(lambda values: trimmed(tuple(values)))
REPETITIONS = st.lists(COMPONENTS, max_size=3).map(lambda values: trimmed(tuple(values)))
FIELDS = st.lists(REPETITIONS, max_size=3).map(lambda values: trimmed(tuple(values)))
SEGMENTS = st.builds(
    Segment,
    st.sampled_from(["PID", "NTE", "ZA1"]),
    st.lists(FIELDS, max_size=4).map(lambda values: trimmed(tuple(values))),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(SEGMENTS, max_size=4))
def test_what_is_written_is_read_back_the_same(segments: list[Segment]):
    message = Message((parse(HEADER).header, *segments))
    assert parse(write(message)) == message
