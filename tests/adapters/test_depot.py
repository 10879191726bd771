"""A drop folder, here and on a real OpenSSH server: three whole files or an answer, once however often it is told."""

import asyncio
import errno
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters import ADAPTERS
from adapters.depot.local import answer_to
from fhir_server.outbox.recipients import load
from fhir_server.outcomes import BadSyntax, Unavailable
from fhir_server.ports import Adapter, Content, HandedOver, Refused, TryLater
from mappings.drop_index import FIELDS
from tests.adapters.envelopes import DELIVERY, PDF, content_of, envelope

SSHD = Path("/usr/sbin/sshd")
PAGE = Path(__file__).parents[2] / "docs" / "recipients.md"
needs_sshd = pytest.mark.skipif(not SSHD.exists(), reason="OpenSSH's server is not installed: see tools/test-packages")
FILES = {f"{DELIVERY}.pdf", f"{DELIVERY}.csv", f"{DELIVERY}.ok"}
LARGE = b"%PDF-1.7\n" + bytes(range(256)) * 400 + b"\n%%EOF"
Options = dict[str, Any]


@dataclass(frozen=True)
class Sshd:
    """A server that runs, and the files of its client."""

    port: int
    files: Path

    def options(self, folder: Path, **changes: Any) -> Options:
        return {
            "folder": str(folder),
            "host": "127.0.0.1",
            "port": self.port,
            "username": getpass.getuser(),
            "known_hosts": str(self.files / "known_hosts"),
            "key_file": str(self.files / "client"),
            "timeout": 10,
            "fields": {"FICHIER": "{file_name}"},
            **changes,
        }

    def knowing(self, port: int, folder: Path, key: str = "host") -> str:
        """A known_hosts for another port."""
        known = folder / f"known_hosts_{port}_{key}"
        known.write_text(f"[127.0.0.1]:{port} {(self.files / f'{key}.pub').read_text()}")
        return str(known)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """OpenSSH as an ordinary process of ours: keys of its own, nobody's configuration."""
    files = tmp_path_factory.mktemp("sshd")
    for key in ("host", "client", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", files / key], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged part is locked into
    one = Sshd(free_port(), files)
    (files / "known_hosts").write_text(f"[127.0.0.1]:{one.port} {(files / 'host.pub').read_text()}")
    (files / "config").write_text(
        f"Port {one.port}\nListenAddress 127.0.0.1\nHostKey {files}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {files}/client.pub\nPermitRootLogin yes\nPasswordAuthentication yes\nMaxStartups 100\n"
        "Subsystem sftp /usr/lib/openssh/sftp-server\n"
    )
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", files / "config"], stderr=subprocess.PIPE)
    try:
        assert server.stderr
        for line in server.stderr:
            if b"listening" in line:
                break
        else:
            pytest.skip("OpenSSH's server does not start here")
        yield one
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(params=["local", pytest.param("sftp", marks=needs_sshd)])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[..., Adapter]]:
    """Makes adapters to `tmp_path/drop`, by either road; each adapter is as a process of its own."""
    (tmp_path / "drop").mkdir()
    made: list[Adapter] = []
    sftp = request.getfixturevalue("sshd") if request.param == "sftp" else None

    def one(**changes: Any) -> Adapter:
        folder = tmp_path / "drop"
        options = {"folder": str(folder), "fields": {"FICHIER": "{file_name}"}, **changes}
        made.append(ADAPTERS["depot"](sftp.options(folder, **changes) if sftp else options, tmp_path / "data"))
        return made[-1]

    yield one
    for adapter in made:
        await adapter.close()


Make = Callable[..., Adapter]


def held(tmp_path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (tmp_path / "drop").iterdir()}


async def test_a_document_its_index_and_its_sentinel_are_handed_over(make: Make, tmp_path: Path) -> None:
    """Three files, whole, and nothing temporary."""
    assert await make().send(envelope(LARGE)) == HandedOver(f"{DELIVERY}.pdf")
    files = held(tmp_path)
    assert set(files) == FILES
    assert files[f"{DELIVERY}.pdf"] == LARGE
    assert files[f"{DELIVERY}.csv"] == f"FICHIER\r\n{DELIVERY}.pdf\r\n".encode()
    assert files[f"{DELIVERY}.ok"] == b""


async def test_told_twice_it_is_there_once_and_not_touched(make: Make, tmp_path: Path) -> None:
    """The software may be reading it: the same files, not written again."""
    await make().send(envelope())
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "drop").iterdir()}
    assert await make().send(envelope()) == HandedOver(f"{DELIVERY}.pdf")
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "drop").iterdir()} == before


async def test_what_the_software_has_taken_away_is_not_put_again(make: Make, tmp_path: Path) -> None:
    """It emptied the folder before the answer was kept."""
    await make().send(envelope())
    for file in (tmp_path / "drop").iterdir():
        file.unlink()
    assert isinstance(await make().send(envelope()), HandedOver)
    assert held(tmp_path) == {}


async def test_what_an_attempt_left_half_is_made_whole(make: Make, tmp_path: Path) -> None:
    """A temporary file, and a document without its index."""
    (tmp_path / "drop" / f".{DELIVERY}.pdf.part").write_bytes(b"x" * 9_000)
    (tmp_path / "drop" / f"{DELIVERY}.pdf").write_bytes(b"old")
    assert isinstance(await make().send(envelope()), HandedOver)
    assert set(held(tmp_path)) == FILES
    assert held(tmp_path)[f"{DELIVERY}.pdf"] == PDF


async def test_many_at_once_do_not_disturb_each_other(make: Make, tmp_path: Path) -> None:
    """A worker sends several side by side, over one connection."""
    adapter = make()
    answers = await asyncio.gather(*(adapter.send(envelope(delivery_id=f"d{n}")) for n in range(6)))
    assert {type(one) for one in answers} == {HandedOver}
    assert len(held(tmp_path)) == 18


async def test_a_folder_that_is_not_there_is_tried_later_and_not_made(make: Make, tmp_path: Path) -> None:
    """A disk that is not mounted."""
    (tmp_path / "drop").rmdir()
    answer = await make().send(envelope())
    assert (type(answer), getattr(answer, "reason", "")) == (TryLater, "folder-absent")
    assert not (tmp_path / "drop").exists()


async def test_a_folder_that_may_not_be_written_to_is_tried_later(make: Make, tmp_path: Path) -> None:
    """Somebody will repair it. Root may write everywhere: the name of the temporary file is a folder instead."""
    if os.getuid() == 0:
        (tmp_path / "drop" / f".{DELIVERY}.pdf.part").mkdir()
        expected = {"no-permission", "io", "sftp-failure"}
    else:
        (tmp_path / "drop").chmod(0o500)
        expected = {"no-permission"}
    answer = await make().send(envelope())
    assert isinstance(answer, TryLater)
    assert answer.reason in expected
    assert not (tmp_path / "drop" / f"{DELIVERY}.ok").exists()


async def test_a_document_that_is_shorter_than_said_is_not_announced(make: Make, tmp_path: Path) -> None:
    """And leaves nothing."""
    whole = content_of(PDF)
    answer = await make().send(envelope(content=Content(whole.media_type, len(PDF) + 1, whole.sha256, whole.chunks)))
    assert isinstance(answer, TryLater)
    assert answer.reason == "short-write"
    assert held(tmp_path) == {}


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_failure_of_our_own_store_passes_and_leaves_nothing(make: Make, tmp_path: Path, after: int) -> None:
    """The dispatcher knows what it means; the next attempt succeeds, over the same connection too."""

    async def broken() -> AsyncIterator[bytes]:
        for number in range(3):
            if number == after:
                raise Unavailable("away")
            yield PDF[number * 700 : (number + 1) * 700]

    adapter = make()
    with pytest.raises(Unavailable):
        await adapter.send(envelope(content=Content("application/pdf", len(PDF), content_of(PDF).sha256, broken)))
    assert held(tmp_path) == {}
    assert isinstance(await adapter.send(envelope()), HandedOver)


async def test_other_media_are_refused(make: Make, tmp_path: Path) -> None:
    """An XML document beside an XML index would be taken for one."""
    answer = await make().send(envelope(content=Content("text/xml", 3, "00", content_of(b"<x>").chunks)))
    assert (type(answer), getattr(answer, "reason", "")) == (Refused, "media-type")
    assert held(tmp_path) == {}


# --- names and indexes


def local(tmp_path: Path, **changes: Any) -> Adapter:
    (tmp_path / "drop").mkdir(exist_ok=True)
    options = {"folder": str(tmp_path / "drop"), "fields": {"F": "{file_name}"}, **changes}
    return ADAPTERS["depot"](options, tmp_path / "data")


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("../../etc/passwd", "_etc_passwd"),
        ("Aptitude à l'émission", "Aptitude_a_l_emission"),
        ("a\x00b\nc\\d:e*", "a_b_c_d_e_"),
        ("..", "_"),
        ("", ""),
        ("x" * 300, "x" * 60),
    ],
)
async def test_no_value_leads_out_of_the_folder(tmp_path: Path, title: str, stem: str) -> None:
    """Whatever a document is called, its name is made of safe characters."""
    fiche = json.loads(json.dumps(envelope().document_reference))
    fiche["content"][0]["attachment"]["title"] = title
    adapter = local(tmp_path, name="{title}-{delivery_id}", identity_in_names=True)
    assert await adapter.send(envelope(document_reference=fiche)) == HandedOver(f"{stem}-{DELIVERY}.pdf")
    assert len(held(tmp_path)) == 3


async def test_a_name_that_grows_too_long_is_refused(tmp_path: Path) -> None:
    """By many fields together."""
    adapter = local(tmp_path, name="{delivery_id}" * 6)
    answer = await adapter.send(envelope())
    assert (type(answer), getattr(answer, "reason", "")) == (Refused, "not-writable")


async def test_every_field_can_be_written_in_each_format(tmp_path: Path) -> None:
    """XML and JSON are read back by others; every field is filled, but what this document does not have."""
    for index in ("xml", "json"):
        fields = {name: f"{{{name}}}" for name in sorted(FIELDS)}
        (tmp_path / index).mkdir()
        adapter = local(tmp_path / index, index=index, fields=fields, sentinel="fin", root="depot")
        assert isinstance(await adapter.send(envelope()), HandedOver)
        written = held(tmp_path / index)[f"{DELIVERY}.{index}"]
        if index == "json":
            values = json.loads(written)
        else:
            root = etree.fromstring(written)
            assert root.tag == "depot"
            values = {element.tag: element.text or "" for element in root}
        assert list(values) == sorted(FIELDS)
        assert {name for name, value in values.items() if not value} == {"replaces"}
        assert (values["ins"], values["birth_name"], values["size"]) == ("279032901921835", "LE GOFF", str(len(PDF)))
        assert values["sha256"] == content_of(PDF).sha256
        assert "dmst-fhir.org" not in written.decode()


async def test_a_value_that_the_encoding_lacks_is_refused_not_altered(tmp_path: Path) -> None:
    """An identity is never written otherwise than it is; XML has character references for it."""
    patient = json.loads(json.dumps(envelope().patient))
    patient["name"][0]["family"] = "ŁUKASZ"
    fields = {"NOM": "{birth_name}"}
    latin = local(tmp_path, encoding="iso-8859-1", fields=fields)
    answer = await latin.send(envelope(patient=patient))
    assert (type(answer), getattr(answer, "reason", "")) == (Refused, "not-writable")
    assert "UKASZ" not in getattr(answer, "detail", "UKASZ")
    assert held(tmp_path) == {}
    xml = local(tmp_path, encoding="iso-8859-1", index="xml", fields=fields)
    assert isinstance(await xml.send(envelope(patient=patient)), HandedOver)
    assert etree.fromstring(held(tmp_path)[f"{DELIVERY}.xml"]).findtext("NOM") == "ŁUKASZ"


async def test_separators_inside_values_stay_inside(tmp_path: Path) -> None:
    """Quoted as RFC 4180 says."""
    adapter = local(tmp_path, separator=",", fields={"A": 'x,"{birth_name}"', "B": "{sex}"})
    await adapter.send(envelope())
    assert held(tmp_path)[f"{DELIVERY}.csv"] == b'A,B\r\n"x,""LE GOFF""",female\r\n'


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folder": ""}, "folder is missing"),
        ({"fodler": "x"}, "no option fodler"),
        ({"fields": {}}, "at least one field"),
        ({"fields": {"A": "{nir}"}}, "no field nir"),
        ({"fields": {"A": "{ins"}}, "braces"),
        ({"fields": {"A": "{ins!r}"}}, "no field"),
        ({"name": "{document_id}"}, "must hold {delivery_id}"),
        ({"name": "../{delivery_id}"}, "letters, digits"),
        ({"name": "a/{delivery_id}"}, "letters, digits"),
        ({"name": "{ins}-{delivery_id}"}, "says who the worker is"),
        ({"name": "{birth_name}-{delivery_id}", "identity_in_names": "yes"}, "says who the worker is"),
        ({"name": "{file_name}-{delivery_id}"}, "cannot hold"),
        ({"index": "yaml"}, "index must be"),
        ({"index": "xml", "fields": {"NUM DOSSIER": "x"}}, "XML elements"),
        ({"separator": ";;"}, "one character"),
        ({"encoding": "utf-16"}, "encoding must be"),
        ({"sentinel": "pdf"}, "sentinel"),
        ({"sentinel": "../x"}, "sentinel"),
        ({"host": "h"}, "username is missing"),
        ({"host": "h", "username": "u"}, "known_hosts is missing"),
        ({"host": "h", "username": "u", "known_hosts": "/nowhere"}, "either key_file or password_file"),
        ({"host": "h", "username": "u", "known_hosts": "/nowhere", "key_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_fault_in_the_options_is_told_at_start(tmp_path: Path, changes: Options, said: str) -> None:
    """Not at the first document."""
    with pytest.raises(BadSyntax, match=re.escape(said)):
        local(tmp_path, **changes)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, (TryLater, "no-space")),
        (errno.EDQUOT, (TryLater, "no-space")),
        (errno.EACCES, (TryLater, "no-permission")),
        (errno.EROFS, (TryLater, "no-permission")),
        (errno.ENOENT, (TryLater, "folder-absent")),
        (errno.EIO, (TryLater, "io")),
        (errno.ENAMETOOLONG, (Refused, "name-too-long")),
    ],
)
def test_errors_of_the_system_are_answers_without_paths(number: int, expected: tuple[type, str]) -> None:
    """Each by its number."""
    answer = answer_to(OSError(number, "text", "/srv/LE GOFF"))
    assert (type(answer), answer.reason) == expected
    assert "GOFF" not in answer.detail


async def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    """Others may write there."""
    adapter = local(tmp_path)
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "drop" / f".{DELIVERY}.pdf.part").symlink_to(tmp_path / "outside")
    await adapter.send(envelope())
    assert (tmp_path / "outside").read_bytes() == b"mine"


async def test_a_full_disk_is_tried_later_and_gets_its_room_back(tmp_path: Path) -> None:
    """On a file system of 64 KiB, where we may mount one."""
    (tmp_path / "drop").mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "drop")]
    if not mount or os.getuid() or subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    try:
        answer = await local(tmp_path).send(envelope(LARGE))
        assert (type(answer), getattr(answer, "reason", "")) == (TryLater, "no-space")
        assert held(tmp_path) == {}
    finally:
        subprocess.run(["umount", str(tmp_path / "drop")], check=True)


# --- SSH


async def answer_of(options: Options, tmp_path: Path) -> tuple[type, str]:
    adapter = ADAPTERS["depot"](options, tmp_path / "data")
    answer = await adapter.send(envelope())
    await adapter.close()
    return type(answer), getattr(answer, "reason", "")


@needs_sshd
async def test_a_host_that_shows_another_key_gets_nothing(sshd: Sshd, tmp_path: Path) -> None:
    """Nor one that nobody has written down."""
    changed = sshd.knowing(sshd.port, tmp_path, key="stranger")
    assert await answer_of(sshd.options(tmp_path, known_hosts=changed), tmp_path) == (Refused, "host-key")
    (tmp_path / "empty").write_text("")
    unknown = sshd.options(tmp_path, known_hosts=str(tmp_path / "empty"))
    assert await answer_of(unknown, tmp_path) == (Refused, "host-key")
    assert not list(tmp_path.glob("*.ok"))


@needs_sshd
async def test_a_key_or_password_that_is_wrong_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    """It will be wrong the next time too."""
    stranger = sshd.options(tmp_path, key_file=str(sshd.files / "stranger"))
    assert await answer_of(stranger, tmp_path) == (Refused, "login")
    (tmp_path / "password").write_text("not this one\n")
    with_password = sshd.options(tmp_path, password_file=str(tmp_path / "password"))
    del with_password["key_file"]
    assert await answer_of(with_password, tmp_path) == (Refused, "login")


@needs_sshd
async def test_a_server_that_is_away_or_silent_is_tried_later(sshd: Sshd, tmp_path: Path) -> None:
    """Refused connection; a listener that never says a word."""
    away = free_port()
    assert await answer_of(sshd.options(tmp_path, port=away), tmp_path) == (TryLater, "network")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        options = sshd.options(tmp_path, port=silent.getsockname()[1], timeout=0.3)
        assert await answer_of(options, tmp_path) == (TryLater, "timeout")


@dataclass
class Wire:
    """What went through a wire, and where it is cut: after so many bytes up (to the server) or down."""

    port: int = 0
    up: int = 0
    down: int = 0
    cut_up: int | None = None
    cut_down: int | None = None


@asynccontextmanager
async def wire(to: int, up: int | None = None, down: int | None = None) -> AsyncIterator[Wire]:
    """A road of TCP to the server."""
    one = Wire(cut_up=up, cut_down=down)
    ended: list[asyncio.Task[None]] = []

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str, both: list[asyncio.StreamWriter]
    ) -> None:
        limit = getattr(one, f"cut_{way}")
        try:
            while data := await reader.read(65_536):
                gone = getattr(one, way)
                passed = data if limit is None else data[: max(0, limit - gone)]
                setattr(one, way, gone + len(passed))
                writer.write(passed)
                await writer.drain()
                if limit is not None and getattr(one, way) >= limit:
                    break
        except OSError:
            pass
        finally:
            for each in both:
                each.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        both = [writer, far_writer]
        ended.append(asyncio.create_task(forward(reader, far_writer, "up", both)))
        ended.append(asyncio.create_task(forward(far_reader, writer, "down", both)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await asyncio.gather(*ended)


@needs_sshd
async def test_a_connection_that_is_cut_anywhere_leaves_nothing_half(sshd: Sshd, tmp_path: Path) -> None:
    """At the login, in the document, at each end and on the way back: the sentinel never before the rest is whole."""

    async def send(drop: Path, **cut: int) -> tuple[Any, Wire]:
        async with wire(sshd.port, **cut) as road:
            options = sshd.options(drop, port=road.port, known_hosts=sshd.knowing(road.port, tmp_path))
            adapter = ADAPTERS["depot"](options, drop.parent / f"data-{drop.name}")
            answer = await adapter.send(envelope(LARGE))
            await adapter.close()
        return answer, road

    whole = tmp_path / "whole"
    whole.mkdir()
    answer, road = await send(whole)
    assert isinstance(answer, HandedOver)
    assert road.up > len(LARGE)
    login = road.up - len(LARGE)
    cuts = [{"up": n} for n in (30, login, *(road.up - n for n in (2_400, 1_800, 900)))]
    cuts += [{"down": road.down - n} for n in (900, 600, 400, 250, 60)]  # answers that are lost
    for number, cut in enumerate(cuts):
        drop = tmp_path / f"cut{number}"
        drop.mkdir()
        answer, _ = await send(drop, **cut)
        files = {file.name: file.read_bytes() for file in drop.iterdir()}
        assert isinstance(answer, TryLater | HandedOver), cut
        assert files.get(f"{DELIVERY}.pdf", LARGE) == LARGE, cut
        if f"{DELIVERY}.ok" in files:
            assert files.keys() >= FILES, cut
        elif isinstance(answer, HandedOver):
            raise AssertionError(f"handed over without a sentinel: {cut}")
        again, _ = await send(drop)
        assert isinstance(again, HandedOver), cut
        assert {file.name for file in drop.iterdir()} == FILES, cut
        assert (drop / f"{DELIVERY}.pdf").read_bytes() == LARGE


# --- the page


def blocks() -> list[tuple[str, str]]:
    section = PAGE.read_text(encoding="utf-8").split("\n## Adapter `depot`\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


async def test_the_example_of_the_page_works(tmp_path: Path) -> None:
    """docs/recipients.md: its file of recipients makes the three files, and the index that it shows."""
    (_, recipients), (_, index), _ = blocks()
    (tmp_path / "drop").mkdir()
    (tmp_path / "recipients.toml").write_text(recipients.replace("/srv/depot", str(tmp_path / "drop")))
    (recipient,) = load(tmp_path / "recipients.toml")
    adapter = ADAPTERS[recipient.adapter](recipient.options, tmp_path)
    stem = f"000123456_2019-05_{DELIVERY}"
    assert f"`{stem}`" in PAGE.read_text(encoding="utf-8")
    assert await adapter.send(envelope(recipient=recipient.name)) == HandedOver(f"{stem}.pdf")
    files = held(tmp_path)
    assert set(files) == {f"{stem}.pdf", f"{stem}.csv", f"{stem}.ok"}
    assert files[f"{stem}.csv"].decode().replace("\r\n", "\n") == index


@needs_sshd
async def test_the_example_of_sftp_works(sshd: Sshd, tmp_path: Path) -> None:
    """With the host, the account and the files of this test in the place of its own."""
    (_, recipients), _, (_, sftp) = blocks()
    shown = tomllib.loads(recipients)["recipient"][0]["options"] | tomllib.loads(sftp)["recipient"]["options"]
    (tmp_path / "drop").mkdir()
    ours = sshd.options(tmp_path / "drop")
    assert shown.keys() >= ours.keys() - {"timeout"}
    replaced = {name: ours[name] for name in tomllib.loads(sftp)["recipient"]["options"]}
    assert (await answer_of(shown | replaced, tmp_path))[0] is HandedOver
    assert len(held(tmp_path)) == 3


def test_the_page_names_every_field() -> None:
    """No more and no less."""
    section = PAGE.read_text(encoding="utf-8").split("\n## Adapter `depot`\n")[1]
    told = section.split("Fields of the document:")[1].split("What is not known")[0]
    assert set(re.findall(r"`(\w+)`", told)) == FIELDS
