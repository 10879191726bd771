"""A9: an assistant sees identities and the index zone; a whole page needs a health role, and is logged with its number.

dmst.md section 6, R4624-45-5 C. trav.
"""

import base64
import io

from PIL import Image, ImageDraw

from fhir_server.intake.review_pages import as_jpeg, cut
from fhir_server.records.identifiers import stable_id
from tests.console.support import ASSISTANT, DOCTOR, NOBODY, NURSE, Office

ZONE = (0.0, 0.0, 1.0, 0.53)


def a_page(*below: str) -> Image.Image:
    picture = Image.new("RGB", (1240, 1754), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((100, 200), "Nom de naissance : FICTIVE")
    for line, text in enumerate(below):
        draw.text((100, 960 + 40 * line), text, fill="black")
    return picture


def test_masked_bytes_say_nothing_of_what_is_masked() -> None:
    """Whatever stands below the zone, the bytes that are sent are the same ones."""
    alone = as_jpeg(cut(a_page(), ZONE))
    assert as_jpeg(cut(a_page("Antécédents : ...", "Tabac : ..."), ZONE)) == alone
    assert as_jpeg(a_page("Antécédents : ...")) != as_jpeg(a_page())
    sent = Image.open(io.BytesIO(alone))
    assert sent.size == (1240, round(0.53 * 1754))
    assert not sent.getexif()
    assert {"exif", "icc_profile", "xmp", "comment"}.isdisjoint(sent.info)


HIDDEN = ("visite", "vaccin", "visiotest", "Pages entières", "doc=", "11/02/2026")
"""What the page of a nurse says of folder 100000106 beside its index: kinds of documents and their dates."""


async def test_an_assistant_sees_the_zone_and_nothing_else(office: Office) -> None:
    """On no path: not the page, not the kinds of documents, not by FHIR; each attempt is in the trail."""
    assistant, nurse = await office.person(ASSISTANT), await office.person(NURSE)
    opened, whole = await assistant.open("100000106"), await nurse.open("100000106")
    for told in ("PATRON", "17/09/1990", "Candidat 1", "identité provisoire", "/zone"):
        assert told in opened.text
    for hidden in HIDDEN:
        assert hidden.casefold() in whole.text.casefold()
        assert hidden.casefold() not in opened.text.casefold()
    zone = await assistant.get(f"{opened.folder}/zone")
    assert (zone.status_code, zone.headers["content-type"]) == (200, "image/jpeg")
    assert zone.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(zone.content)).size == (1240, 930), "53 % of a page"
    for path in (f"{opened.folder}/pages/1/1", f"{opened.folder}/pages/2/1", f"{opened.href}&doc=2&page=1"):
        refused = await assistant.get(path)
        assert refused.status_code == 403
        assert "Accès refusé" in refused.text
        assert "journal des accès" in refused.text
    rows = await office.trail("review=%")
    assert [row[1:] for row in rows if row[0] == ASSISTANT] == [
        ("read", 0, "review=zone&document=1&page=1"),
        ("read", 4, "review=page&document=1&page=1"),
        ("read", 4, "review=page&document=2&page=1"),
        ("read", 4, "review=documents"),
    ]
    for document in await office.server.rows("select lot, document_id from scan_document"):
        for resource, kind in (("Binary", "binary"), ("DocumentReference", "document")):
            assert (await assistant.get(f"/fhir/{resource}/{stable_id(kind, *document)}")).status_code == 404
    assert (await assistant.get("/fhir/DocumentReference?_total=accurate")).json()["total"] == 0


async def test_a_whole_page_is_for_health_roles_and_logged(office: Office) -> None:
    """The nurse sees it, its number is in the AuditEvent; what is non-transmissible only the doctor sees."""
    nurse, doctor, nobody = [await office.person(who) for who in (NURSE, DOCTOR, NOBODY)]
    opened = await nurse.open("100000106")
    shown = await nurse.get(f"{opened.href}&doc=2&page=1")
    assert f'src="{opened.folder}/pages/2/1"' in shown.text
    page = await nurse.get(f"{opened.folder}/pages/2/1")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert Image.open(io.BytesIO(page.content)).width == 1240
    assert (await nurse.get(f"{opened.folder}/pages/3/1")).status_code == 200, "a JPEG"
    for beyond in ("pages/2/2", "pages/9/1", "pages/0/1", "pages/x/1"):
        assert (await nurse.get(f"{opened.folder}/{beyond}")).status_code == 404
    told = (await doctor.get("/fhir/AuditEvent?_count=100")).text
    assert base64.b64encode(b"review=page&document=2&page=1").decode() in told

    at_doctor = await doctor.open("100000106")
    document = "100000106_0002"
    assert (await at_doctor.send("non-transmissible", document=document)).status_code == 303
    assert (await nurse.get(f"{opened.folder}/pages/2/1")).status_code == 403
    assert "Non transmissible</strong>, Document 2" in (await nurse.open("100000106")).text
    assert "transmissible" not in (await (await office.person(ASSISTANT)).open("100000106")).text
    assert "ne peut pas être montrée" in (await nurse.get(f"{opened.href}&doc=2&page=1")).text
    assert (await doctor.get(f"{opened.folder}/pages/2/1")).status_code == 200
    assert ("89970000207", "read", 4, "review=page&document=2&page=1") in await office.trail("review=page%")

    for path in ("/console", opened.href, f"{opened.folder}/zone", f"{opened.folder}/pages/1/1"):
        assert (await nobody.get(path)).status_code == 403
    assert {row[2] for row in await office.trail("review%") if row[0] == NOBODY} == {4}
