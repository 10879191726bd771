"""Documents of the ANS's guide: what agrees is read, what contradicts itself is refused by place and code."""

from dataclasses import replace

import pytest

from adapters.codecs.hl7v2.documents import Action, DocumentMessage
from adapters.codecs.hl7v2.documents_reading import check_ins, check_same_patient, read_document_message
from adapters.codecs.hl7v2.documents_writing import document_message
from adapters.codecs.hl7v2.failures import MessageRefused
from adapters.codecs.hl7v2.reading import parse
from adapters.codecs.hl7v2.writing import write
from terminology.systems import INS_NIR_OID, INS_TEST_OID
from tests.codecs.hl7v2_samples import names, sample

FIRST, REPLACED, DELETED = (
    "mdm_t02_v2.0_initial_n1.er7",
    "mdm_t10_v2.0_replacement_n1.er7",
    "mdm_t04_v2.0_deletion_n1.er7",
)
LAB = "oru_r01_v2.1_initial_n1_n3.hl7"
SYSTEMS = {INS_NIR_OID, INS_TEST_OID}


def read(name: str, *changes: tuple[str, str]) -> DocumentMessage:
    """The sample, some of its words replaced."""
    text = sample(name).decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return read_document_message(parse(text.encode()))


def codes(failure: MessageRefused) -> list[tuple[str, str, str]]:
    return [(one.condition, one.application.code if one.application else "", str(one.place)) for one in failure.faults]


@pytest.mark.parametrize("name", names("mdm", "oru"))
def test_every_sample_carries_a_document(name: str):
    message = read(name)
    assert all(one.content for one in message.documents)
    assert message.patient.statuses == ("VALI",)
    check_ins(message, SYSTEMS)


@pytest.mark.parametrize("name", [name for name in names("mdm", "oru") if "lps" not in name])
def test_those_of_ours_to_write_are_written_back_equal_in_meaning(name: str):
    message = read(name)
    again = read_document_message(parse(write(document_message(message))))
    assert again == replace(
        message, envelope=replace(message.envelope, profile=("2.1", "CISIS_CDA_HL7_V2")), warnings=()
    )


def test_the_action_is_what_all_three_places_say():
    assert [read(name).action for name in (FIRST, REPLACED, DELETED)] == list(Action)
    assert read(LAB).action is Action.FIRST


def test_ids_parents_documents_and_addressees():
    message = read(REPLACED)
    assert message.entry is not None
    assert message.entry.id.value == "1.2.250.1.71.4.2.2.120456789.A71024000082"
    assert message.entry.parent is not None
    assert message.documents[0].type.code == "18748-4"
    assert message.documents[0].content.startswith(b"Document")
    sender, copied = message.documents[0].participations
    assert (sender.role, sender.person and sender.person.type) == ("SB", "RPPS")
    assert sender.organisation is not None
    assert (sender.organisation.type, sender.organisation.id) == ("FINEG", "300017985")
    assert copied.address == "adam.hoda@test-ci-sis.mssante.fr"
    assert message.mails == {"CORPSMAIL_PS": "Cher confrère, vous trouverez ci-joint le CR d’imagerie de M.Dupont"}
    assert len(read(LAB).documents) == 2


def test_a_mail_that_cannot_be_decoded_is_a_warning_and_a_document_is_a_refusal():
    message = read(LAB)
    assert message.mails is None
    assert [(one.condition, one.severity, str(one.place)) for one in message.warnings] == [
        ("102", "W", "OBX[13]-5(1).5")
    ]
    with pytest.raises(MessageRefused) as caught:
        read(LAB, ("^Base64^RG9j", "^Base64^*G9j"))
    assert codes(caught.value) == [("102", "", "OBX[1]-5(1).5")]


def test_the_mailbox_may_stand_one_field_late():
    message = read(FIRST, ("|^NET^X.400^adam.hoda", "||^NET^X.400^adam.hoda"))
    assert message.documents[0].participations[1].address == "adam.hoda@test-ci-sis.mssante.fr"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (FIRST, [("MDM^T02^", "MDM^T10^")], ("207", "906", "MSH[1]-9(1).2")),
        (FIRST, [("MDM^T02^", "MDM^T11^")], ("201", "", "MSH[1]-9(1).2")),
        (FIRST, [("MDM^T02^", "ADT^A01^")], ("200", "", "MSH[1]-9(1).1")),
        (FIRST, [("|P|2.6|", "|X|2.6|")], ("202", "", "MSH[1]-11")),
        (FIRST, [("|P|2.6|", "|P|2.4|")], ("203", "", "MSH[1]-12")),
        (FIRST, [("2.0^CISIS", "3.0^CISIS")], ("207", "900", "MSH[1]-21")),
        (FIRST, [("TXA|1|18748-4", "ORC|RO\nTXA|1|18748-4")], ("207", "906", "ORC[1]-1")),
        (FIRST, [("TXA|1|18748-4", "TXA|1|11502-2")], ("207", "906", "TXA[1]-2")),
        (REPLACED, [("|1.2.250.1.71.4.2.2.120456789A71024000081^Organisation-Y", "|")], ("101", "", "TXA[1]-13")),
        (REPLACED, [("TXA|1|", "ZZZ|1|")], ("100", "", "TXA[1]")),
        (DELETED, [("||||||D|", "||||||Z|")], ("103", "", "OBX[1]-11")),
        (DELETED, [("||||||D|", "||||||F|")], ("207", "906", "MSH[1]-9(1).2")),
        (LAB, [("ORC|NW", "ORC|CA")], ("207", "906", "ORC[1]-1")),
        (LAB, [("ORC|NW", "ORC|SC")], ("103", "", "ORC[1]-1")),
        (LAB, [("OBX|2|ED|", "OBX|2|ST|"), ("OBX|1|ED|", "OBX|1|ST|")], ("101", "", "OBX[1]-5")),
        (LAB, [("DESTDMP^", "OTHER^")], ("101", "", "OBX[14]-3(1).1")),
        (LAB, [("||Y^^expanded", "||O^^expanded")], ("103", "", "OBX[8]-5(1).1")),
        (LAB, [("DESTDMP^", "MASQUE_PS^")], ("198", "", "OBX[8]-3(1).1")),
        (LAB, [("PID|||279035121518989", "PID|||")], ("101", "", "PID[1]-3")),
        (LAB, [("ORU_R01|015", "ORU_R01|")], ("101", "", "MSH[1]-10")),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_misses_something_is_refused_by_place_and_code(
    name: str, changes: list[tuple[str, str]], expected: tuple[str, str, str]
):
    with pytest.raises(MessageRefused) as caught:
        read(name, *changes)
    assert codes(caught.value) == [expected]
    assert caught.value.header is not None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("1.2.250.1.213.1.4.8", "1.2.3")], ("207", "903", "PID[1]-3")),
        ([("274075176079430", "2740751760794")], ("207", "905", "PID[1]-3(1).1")),
        ([("|N|VALI", "|N|PROV")], ("207", "905", "PID[1]-32")),
    ],
)
def test_an_ins_is_asked_for_where_the_caller_insists(changes: list[tuple[str, str]], expected: tuple[str, str, str]):
    with pytest.raises(MessageRefused) as caught:
        check_ins(read(FIRST, *changes), SYSTEMS)
    assert codes(caught.value) == [expected]


def test_the_patient_of_the_message_is_the_patient_of_the_document():
    message = read(FIRST)
    check_same_patient(message, [("1.2.3", "local"), (INS_NIR_OID, "274075176079430")], SYSTEMS)
    check_same_patient(message, [("1.2.3", "local")], SYSTEMS)
    with pytest.raises(MessageRefused) as caught:
        check_same_patient(message, [(INS_NIR_OID, "277076322082910")], SYSTEMS)
    assert codes(caught.value) == [("207", "904", "PID[1]-3")]


def test_metadata_are_written_in_the_order_of_the_guide():
    written = document_message(read(FIRST))
    assert [one.value(3) for one in written.named("OBX")][1:] == [
        "MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "CONNEXION_SECRETE", "MODIF_CONF_CODE", "DESTDMP",
        "DESTMSSANTEPS", "DESTMSSANTEPAT", "ACK_RECEPTION", "ACK_LECTURE_MSS", "CORPSMAIL_PS",
    ]  # fmt: skip
    assert {one.value(2) for one in list(document_message(read(LAB)).named("OBX"))[2:]} == {"CE"}


def test_what_would_be_refused_is_not_written():
    message = read(REPLACED)
    assert message.entry is not None
    with pytest.raises(MessageRefused) as caught:
        document_message(replace(message, entry=replace(message.entry, parent=None), flags={}))
    assert len(caught.value.faults) == 11
    with pytest.raises(MessageRefused):
        document_message(replace(read(LAB), documents=()))
