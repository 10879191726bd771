"""Acknowledgements and business receipts, both ways."""

import pytest

from adapters.codecs.hl7v2.ack import Ack, ack_message, acknowledge, read_ack
from adapters.codecs.hl7v2.failures import APPLICATION_ERRORS, Fault, MessageRefused, Place, application_fault, fault
from adapters.codecs.hl7v2.message import Message
from adapters.codecs.hl7v2.reading import parse
from adapters.codecs.hl7v2.receipts import read_receipt, receipt_message
from adapters.codecs.hl7v2.writing import write
from tests.codecs.hl7v2_samples import names, sample

ORIGINAL = b"MSH|^~\\&|RIS|Y|PFI|X|2026||MDM^T10^MDM_T02|015|T|2.6||||||8859/15|||2.1^CISIS_CDA_HL7_V2"


def answered(*faults: Fault) -> tuple[Ack, Message]:
    ack = acknowledge(parse(ORIGINAL), control_id="016", sent_at="20260101", faults=faults)
    return ack, parse(write(ack_message(ack)))


@pytest.mark.parametrize("name", names("ack"))
def test_the_samples_say_that_015_was_taken(name: str):
    ack = read_ack(parse(sample(name)))
    assert (ack.verdict, ack.acknowledged, ack.faults) == ("AA", "015", ())
    assert read_ack(parse(write(ack_message(ack)))) == ack


def test_an_answer_goes_back_to_the_sender_in_his_character_set():
    ack, message = answered()
    assert ack.verdict == "AA"
    assert write(message) == (b"MSH|^~\\&|PFI|X|RIS|Y|20260101||ACK^T10^ACK|016|T|2.6|||||FRA|8859/15\rMSA|AA|015\r")


@pytest.mark.parametrize("code", APPLICATION_ERRORS)
def test_every_code_of_the_ans_is_told_with_its_place(code: str):
    ack, message = answered(application_fault(code, Place("PID", 1, 3, 2, 1), "not sent"))
    assert message.segments[2].value(3) == "207"
    assert message.segments[2].value(4) == "E"
    assert message.segments[2].value(5) == code
    again = read_ack(message)
    assert again.verdict == ack.verdict == "AE"
    assert again.faults[0].place == Place("PID", 1, 3, 2, 1)
    assert again.faults[0].application == ack.faults[0].application
    assert b"not sent" not in write(message)


def test_a_warning_is_no_refusal_and_a_foreign_type_is_rejected():
    assert answered(fault("102", Place("OBX", 13, 5), "", severity="W"))[0].verdict == "AA"
    assert answered(fault("200", None, ""))[0].verdict == "AR"


@pytest.mark.parametrize("tail", [b"", b"\rMSA|AA", b"\rMSA||015", b"\rMSA|XX|015"])
def test_an_answer_that_says_nothing_is_refused(tail: bytes):
    with pytest.raises(MessageRefused):
        read_ack(parse(ORIGINAL.replace(b"MDM^T10^MDM_T02", b"ACK") + tail))


@pytest.mark.parametrize("place", ["^", "PID^x^" + "9" * 6000, "PID^²"])
def test_a_place_that_is_none_is_no_failure(place: str):
    content = ORIGINAL.replace(b"MDM^T10^MDM_T02", b"ACK") + f"\rMSA|AE|015\rERR||{place}|207|E".encode("iso8859-15")
    found = read_ack(parse(content)).faults[0].place
    assert found in {None, Place("PID")}


@pytest.mark.parametrize("name", names("zam"))
def test_receipts_are_read_and_written_back_the_same(name: str):
    receipt = read_receipt(parse(sample(name)))
    assert receipt.original == "015"
    assert receipt.positive is (receipt.event != "Z01")
    assert read_receipt(parse(write(receipt_message(receipt)))) == receipt


def test_a_receipt_tells_the_addressee_or_the_error():
    closed = read_receipt(parse(sample("zam_z01_reception_dmp.hl7")))
    assert [one.application.code for one in closed.faults if one.application] == ["DMPClosed"]
    opened = read_receipt(parse(sample("zam_z03_lecture_mss.hl7")))
    assert (opened.address, opened.party_id) == ("adam.hoda@test-ci-sis.mssante.fr", "801234567897")


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [
        (b"ZAM^Z03", b"MDM^Z03", "200"),
        (b"ZAM^Z03", b"ZAM^Z09", "201"),
        (b"ACK_LECTURE_MSS", b"OTHER", "101"),
        (b"|015|", b"||", "101"),
        (b"|Y^^", b"|O^^", "103"),
    ],
)
def test_a_receipt_that_says_nothing_is_refused(old: bytes, new: bytes, condition: str):
    with pytest.raises(MessageRefused) as caught:
        read_receipt(parse(sample("zam_z03_lecture_mss.hl7").replace(old, new)))
    assert [one.condition for one in caught.value.faults] == [condition]
