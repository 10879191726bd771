"""The loopback recipient keeps what it is sent, once, and can be told to have bad days."""

import asyncio
import json
from pathlib import Path

import pytest

from adapters import ADAPTERS
from adapters.loopback import Loopback
from fhir_server.ports import HandedOver, Refused, TryLater
from tests.adapters.envelopes import DELIVERY, PDF, envelope


def kept(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "logiciel").glob("*")}


async def test_a_document_is_handed_over_whole(tmp_path: Path) -> None:
    """Its bytes and its description, and nothing half."""
    loopback = Loopback(tmp_path)
    assert await loopback.send(envelope()) == HandedOver(DELIVERY)
    files = kept(tmp_path)
    assert set(files) == {f"{DELIVERY}.bin", f"{DELIVERY}.json"}
    assert files[f"{DELIVERY}.bin"] == PDF
    assert json.loads(files[f"{DELIVERY}.json"]) == envelope().document_reference
    await loopback.close()


async def test_told_twice_it_holds_it_once(tmp_path: Path) -> None:
    """After a crash the same envelope comes again, perhaps to another process."""
    await Loopback(tmp_path).send(envelope())
    assert await Loopback(tmp_path).send(envelope()) == HandedOver(DELIVERY)
    assert len(kept(tmp_path)) == 2


async def test_it_refuses_when_told_to(tmp_path: Path) -> None:
    """With the reason that it was given, and keeps nothing."""
    answer = await Loopback(tmp_path, refuse="patient-unknown").send(envelope())
    assert isinstance(answer, Refused)
    assert answer.reason == "patient-unknown"
    assert kept(tmp_path) == {}


async def test_it_puts_off_as_often_as_told_to(tmp_path: Path) -> None:
    """Each delivery for itself."""
    loopback = Loopback(tmp_path, fail_first=2)
    answers = [type(await loopback.send(envelope())) for _ in range(3)]
    assert answers == [TryLater, TryLater, HandedOver]
    assert isinstance(await loopback.send(envelope(delivery_id="another")), TryLater)


async def test_many_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A worker sends several side by side."""
    loopback = Loopback(tmp_path)
    await asyncio.gather(*(loopback.send(envelope(delivery_id=f"d{n}")) for n in range(10)))
    assert len(kept(tmp_path)) == 20


@pytest.mark.parametrize(
    ("options", "expected"), [({}, HandedOver), ({"refuse": "x"}, Refused), ({"fail_first": 1}, TryLater)]
)
async def test_its_options_come_from_the_file_of_recipients(
    tmp_path: Path, options: dict[str, object], expected: type
) -> None:
    """By the name under which it is listed; its folder is under the data folder unless another is named."""
    adapter = ADAPTERS["loopback"](options, tmp_path)
    assert isinstance(await adapter.send(envelope()), expected)
    assert (tmp_path / "loopback" / "logiciel").exists() == (expected is HandedOver)
    await adapter.close()
