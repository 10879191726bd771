"""A message that somebody spoilt: read or refused, never another failure."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.codecs.hl7v2.ack import ack_message, acknowledge, read_ack
from adapters.codecs.hl7v2.documents_reading import read_document_message
from adapters.codecs.hl7v2.documents_writing import document_message
from adapters.codecs.hl7v2.failures import MessageRefused
from adapters.codecs.hl7v2.reading import parse
from adapters.codecs.hl7v2.receipts import read_receipt
from adapters.codecs.hl7v2.writing import write
from tests.codecs.hl7v2_samples import sample

FILES = [
    "ack_mdm.er7",
    "mdm_lps_v1.0_initial_n1.er7",
    "mdm_t10_v2.0_replacement_n1.er7",
    "oru_r01_v2.1_initial_n1_n3.hl7",
    "zam_z01_reception_dmp.hl7",
    "zam_z03_lecture_mss.hl7",
]
PIECES = st.sampled_from([b"", b"|", b"^", b"~", b"&", b"\\", b"\r", b"\n", b'""', b"OBX|", b"\xff", b"9" * 5000, b"X"])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), PIECES), max_size=4))
def test_a_spoilt_message_is_read_or_refused_and_the_refusal_can_be_sent(
    name: str, changes: list[tuple[float, int, bytes]]
):
    content = sample(name)
    for where, length, piece in changes:
        start = int(where * len(content))
        content = content[:start] + piece + content[start + length :]
    for read in (read_ack, read_document_message, read_receipt):
        try:
            found = read(parse(content))
        except MessageRefused as refused:
            if refused.header:
                answer = acknowledge(refused.header, control_id="1", sent_at="2026", faults=refused.faults)
                with contextlib.suppress(MessageRefused):  # the header may hold what its own character set does not
                    parse(write(ack_message(answer)))
            continue
        if read is read_document_message:
            # a guide that is read may ask for less than the one that is written
            with contextlib.suppress(MessageRefused):
                write(document_message(found))  # pyright: ignore[reportArgumentType]
