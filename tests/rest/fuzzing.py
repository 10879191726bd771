"""Requests that nobody should send, made from the tables of the server itself: a new route is fuzzed by itself.

What is drawn comes from one seeded generator, so a run can be repeated. Secrets (what no request may hold) are not
known here; ids that exist are, since whoever attacks may guess them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from fhir_server.outcomes import Failure
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_parameters import parameters_of
from fhir_server.r4.xml import to_xml
from fhir_server.rest.operations import OPERATIONS
from fhir_server.rest.routes import OPERATION_ROUTES, ROUTES, UPLOAD_ROUTES

Json = Any
FHIR = [(route.method, route.shape) for route in (*ROUTES, *ROUTES, *ROUTES, *OPERATION_ROUTES, *UPLOAD_ROUTES)]
OFFERED = {one.name: one.types for one in OPERATIONS}
MOST_NODES = 20_000
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "MOVE")
WORDS = (
    "",
    " ",
    "a",
    "true",
    "null",
    "0",
    "-1",
    "1",
    "2026-01-01",
    "2026",
    "ge2026-13-41",
    "ap1e400",
    "1e999999",
    "\0",
    "\ud800",
    "x" * 5000,
    "%",
    "*",
    "|",
    "a|b|c",
    ",",
    ",,,",
    "\\,",
    "$",
    "'",
    '"',
    "../../etc/passwd",
    "é\u202e",
    "Ω" * 300,
    "((((((((((a+)+)+)+)+",
    "9" * 400,
    "-9223372036854775809",
    "2147483648",
    "urn:uuid:",
    "http://test/fhir/Patient/",
    "#",
    "?",
    "Patient/",
    "Patient//",
    "_id",
    ":",
    "2026-01-01T00:00:00+99:99",
    "0000-00-00",
    "9999-12-31T23:59:60Z",
    "eq",
    "sa",
    "-",
    "--",
    "\r\nx: y",
    "http://loinc.org|8867-4",
)
MODIFIERS = (
    "",
    "",
    "",
    ":exact",
    ":missing",
    ":not",
    ":in",
    ":below",
    ":above",
    ":contains",
    ":text",
    ":of-type",
    ":identifier",
    ":Patient.name",
    ":nonsense",
    ".name",
    ".identifier",
    ".subject.name",
    ":",
    ":::",
    ":Patient._id",
)
RESULT = (
    "_count",
    "_sort",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_include:iterate",
    "_contained",
    "_format",
    "_pretty",
    "_cursor",
    "_explain",
    "_since",
    "_until",
    "_at",
    "_list",
    "_filter",
    "_text",
    "_content",
    "_type",
    "_typeFilter",
    "_has",
    "_has:Observation:subject:code",
    "_has:Consent:patient:status",
    "_id",
    "_lastUpdated",
    "_tag",
    "_security",
    "_outputFormat",
    "mode",
)
VALUES = (
    "0",
    "1",
    "2",
    "1001",
    "count",
    "data",
    "text",
    "accurate",
    "estimate",
    "none",
    "-_lastUpdated",
    "*",
    "Observation:subject",
    "Patient:*",
    "json",
    "xml",
    "application/fhir+xml",
    "html",
    "ndjson",
    "code eq 8867-4",
    "(a eq b) and not (c pr true)",
    "Observation?code=1",
    "id,meta",
    "terminology",
    "non-transmissible",
    "deny",
)
MEDIA = (
    "application/fhir+json",
    "application/fhir+json",
    "application/fhir+json",
    "application/json",
    "application/fhir+xml",
    "text/xml",
    "application/json-patch+json",
    "application/xml-patch+xml",
    "application/x-www-form-urlencoded",
    "application/graphql",
    "application/fhir+ndjson",
    "application/octet-stream",
    "application/offset+octet-stream",
    "application/fhir+json; charset=utf-16",
    "multipart/form-data; boundary=x",
    "x",
    "",
    "a/b/c;=",
)
HEADERS = {
    "accept": (
        "application/fhir+json",
        "application/fhir+xml",
        "*/*",
        "text/html",
        "application/pdf",
        "x",
        ";q=9",
        "application/fhir+json;q=nan",
    ),
    "prefer": (
        "respond-async",
        "return=representation",
        "return=OperationOutcome",
        "handling=lenient",
        "handling=strict",
        "=,;",
    ),
    "if-match": ('W/"1"', 'W/"99999999999999999999"', "*", '"x"', "W/1"),
    "if-none-match": ('W/"1"', "*", '"', "W/"),
    "if-modified-since": ("Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 99 Foo 9999", "x"),
    "range": ("bytes=0-0", "bytes=5-1", "bytes=-1", "bytes=0-99999999999999999999", "bytes=", "x=1-2"),
    "x-request-id": ("a", "x" * 500, "\u00e9"),
    "tus-resumable": ("1.0.0", "0", ""),
    "upload-length": ("5", "-1", "9" * 30, "x"),
    "upload-offset": ("0", "5", "-1", "x"),
    "upload-metadata": ("filename d29ybGQ=", "a b c d", ",,,", "contentType !!!"),
    "x-csrf-token": ("x",),
    "x-security-context": ("Patient/p", "x", "Observation/o1"),
    "content-encoding": ("gzip", "br"),
    "cookie": ("__Host-dmst-session=x", "=;=;"),
    "x-http-method-override": ("DELETE",),
    "accept-language": ("fr", ",,;q=x"),
    "content-language": ("fr",),
    "origin": ("null", "http://evil.example"),
    "x-forwarded-for": ("127.0.0.1", "x"),
    "traceparent": ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff"),
}
XML = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<Patient xmlns="http://hl7.org/fhir"><id value="&x;"/></Patient>',
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Patient xmlns="http://hl7.org/fhir"><id value="&c;"/></Patient>',
    b"<" * 5000,
    b"<Patient/>",
    b'<Patient xmlns="http://hl7.org/fhir"><Patient/></Patient>',
    b"<a>" * 3000 + b"</a>" * 3000,
    b'<?xml version="1.0" encoding="UTF-7"?><x/>',
    b'<?xml version="1.0" encoding="utf-16"?><x/>',
    b'<diff><replace sel="Patient/id/@value">x</replace></diff>',
    b'<diff><remove sel="//*[position()=1]"/></diff>',
    b"<?xml?>",
    b"]]>",
)
RAW = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"0",
    b'"x"',
    b"{",
    b"[" * 20000,
    b'{"a":' * 5000,
    b"\xff\xfe",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"NaN",
    b'{"resourceType":"Patient","resourceType":"Observation"}',
    b'{"resourceType":"Nonsense"}',
    b'{"resourceType":1}',
    b'{"resourceType":"Patient","id":"' + b"x" * 100000 + b'"}',
    b'{"resourceType":"Patient","active":1e999}',
    b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 5000 + b"}",
    b'{"resourceType":"Patient","id":"\\ud800"}',
    "é".encode("latin-1"),
    '{"resourceType":"Patient"}'.encode("utf-16"),
    b'{"resourceType":"Observation","resourceType":null}\n{"x"',
)
QUERIES = (
    "{ ObservationList { id subject { resource { id } } } }",
    "{ PatientList(_count: 1000) { id name { family } } }",
    "{" * 2000,
    "{ x }",
    "",
    '{ Patient(id: "p") { id } }',
    "query($a: String) { PatientList(_id: $a) { id } }",
    "{ __schema { types { name } } }",
    "fragment a on Patient { ...a } { PatientList { ...a } }",
    "{ ObservationConnection { count } }",
    '{ DocumentReferenceList(_filter: "x") { id } }',
)
SCALARS: tuple[Json, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    1e308,
    "",
    " ",
    "x" * 3000,
    "\ud7ff",
    [],
    {},
    [[]],
    [None],
    {"a": None},
    [{}],
    "2026-02-30",
    "\u0000",
    {"reference": 5},
)


@dataclass(frozen=True)
class Request:
    """One request. `known` are the ids in its path that exist."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path[:400]} {self.headers} {self.body[:600]!r}"


class Fuzzer:
    """Draws requests. `ids` are those that exist, by type; `others` what replaces any one value (jobs, cursors);
    `samples` are resources to be written; `beside` the routes outside FHIR, as (method, path).
    """

    def __init__(
        self,
        dice: random.Random,
        ids: dict[str, list[str]],
        others: Sequence[str],
        samples: Sequence[Json],
        beside: Sequence[tuple[str, str]],
    ) -> None:
        self._dice = dice
        self._ids = ids
        self._all = [one for listed in ids.values() for one in listed]
        self._others = list(others)
        self._samples = list(samples)
        self._beside = list(beside)
        self._names = [
            "patient",
            "url",
            "code",
            "system",
            "resource",
            "query",
            "fromVersion",
            "toVersion",
            "input",
            "meta",
            "profile",
            "start",
        ]

    def learn(self, text: str) -> None:
        """A refusal that says which parameters there are."""
        if "(it has: " in text:
            for name in text.partition("(it has: ")[2].partition(")")[0].split(", "):
                if name not in self._names and len(name) < 40:
                    self._names.append(name)

    def request(self) -> Request:
        dice = self._dice
        if self._beside and dice.random() < 0.06:
            method, path = dice.choice(self._beside)
            return self._finished(self._method(method), path.replace("{", "").replace("}", ""), None, ())
        method, shape = dice.choice(FHIR)
        method = self._method(method)
        name = self._type_for(method, shape)
        segments, known = self._segments(shape, name)
        return self._finished(method, "/fhir/" + "/".join(segments), name, known)

    def _method(self, method: str) -> str:
        return method if self._dice.random() < 0.9 else self._dice.choice(METHODS)

    def _type(self) -> str:
        if self._dice.random() < 0.85:
            return self._dice.choice(list(self._ids))
        return (
            self._dice.choice(RESOURCE_TYPES)
            if self._dice.random() < 0.9
            else self._dice.choice(("Nonsense", "patient", "DomainResource"))
        )

    def _type_for(self, method: str, shape: Sequence[str]) -> str:
        """Mostly one on which the route is offered, and of which there is something."""
        operation = next((part for part in shape if part.startswith("$")), "")
        if self._dice.random() < 0.1:
            return self._type()
        if types := OFFERED.get(operation):
            return self._dice.choice(sorted(types & self._ids.keys()) or sorted(types))
        if method in ("POST", "PUT"):
            return self._dice.choice([one for one in self._ids if any(s["resourceType"] == one for s in self._samples)])
        return self._type()

    def _segments(self, shape: Sequence[str], name: str) -> tuple[list[str], tuple[str, ...]]:
        dice, segments, known = self._dice, [], []
        for place, part in enumerate(shape):
            match part:
                case "T":
                    segments.append(name if place == 0 else self._type())
                case "I" | "J" | "F" if dice.random() < 0.85:
                    listed = self._others if part != "I" else self._ids.get(name) or self._all
                    if part == "I" and dice.random() < 0.1:
                        listed = self._all
                    chosen = dice.choice(listed)
                    segments.append(chosen)
                    if part == "I":
                        known.append(chosen)
                case "V":
                    segments.append(dice.choice(("1", "1", "2", "3", "0", "-1", "99", "9" * 30, "x")))
                case "I" | "J" | "F":
                    segments.append(quote(self._word().encode("utf-8", "surrogatepass"), safe=""))
                case _:
                    segments.append(part)
        if dice.random() < 0.03:
            segments.insert(
                dice.randrange(len(segments) + 1),
                dice.choice(("..", "", "%2e%2e", "%00", "_history", "$meta", "%ff", "*")),
            )
        return segments, tuple(known)

    def _word(self) -> str:
        dice = self._dice
        kind = dice.random()
        if kind < 0.35:
            name = dice.choice(list(self._ids))
            form = dice.choice(("{0}/{1}", "{1}", "http://test/fhir/{0}/{1}", "{0}/{1}/_history/1", "urn:test:x|{1}"))
            return form.format(name, dice.choice(self._ids[name]))
        if kind < 0.5:
            return dice.choice(VALUES)
        if kind < 0.6:
            return dice.choice(self._others or WORDS)
        return dice.choice(WORDS)

    def _query(self, name: str | None) -> str:
        dice = self._dice
        if dice.random() < 0.35:
            return ""
        if dice.random() < 0.03:
            return dice.choice(
                ("%", "&&&&", "=", "a=%ff%fe", "_count", "=" * 500, "a&" * 900, "%00=%00", "_id=%ED%A0%80")
            )
        pairs = [(self._name(name), self._word()) for _ in range(dice.choice((1, 1, 1, 2, 3)))]
        return urlencode(
            [(key.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass")) for key, value in pairs]
        )

    def _name(self, name: str | None) -> str:
        dice = self._dice
        kind = dice.random()
        if kind < 0.45:
            listed = list(parameters_of(name or "")) or list(RESULT)
            return dice.choice(listed) + dice.choice(MODIFIERS)
        if kind < 0.75:
            return dice.choice(RESULT)
        return dice.choice(self._names) if kind < 0.95 else dice.choice(WORDS)

    def _finished(self, method: str, path: str, name: str | None, known: tuple[str, ...]) -> Request:
        dice = self._dice
        query = self._query(name) if method in ("GET", "HEAD") or dice.random() < 0.3 else ""
        headers = {key: dice.choice(values) for key, values in HEADERS.items() if dice.random() < 0.03}
        if ("$export" in path or "$import" in path) and dice.random() < 0.8:
            headers["prefer"] = "respond-async"
        if dice.random() < 0.05:
            headers["if-none-exist"] = (
                (self._query(name) or "identifier=x").encode("latin-1", "ignore").decode("latin-1")
            )
        if dice.random() < 0.02:
            headers["authorization"] = dice.choice(
                ("Bearer x", "Basic eDp4", "Bearer " + "a.b.c", "", "Bearer \u00e9", "x" * 9000)
            )
        body = b""
        if method not in ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE") or dice.random() < 0.02:
            media, body = self._body(path, name, known)
            if dice.random() < 0.08:
                media = dice.choice(MEDIA)
            headers["content-type"] = media
        return Request(method, f"{path}?{query}" if query else path, headers, body, known)

    def _body(self, path: str, name: str | None, known: tuple[str, ...]) -> tuple[str, bytes]:
        dice = self._dice
        kind = dice.random()
        if kind < 0.06:
            return dice.choice(MEDIA), dice.choice(RAW)
        if kind < 0.1:
            return "application/fhir+xml", dice.choice(XML)
        if "_search" in path or "oauth2" in path:
            return "application/x-www-form-urlencoded", self._query(name).encode()
        if "$graphql" in path and kind < 0.7:
            return "application/json", _dump({"query": dice.choice(QUERIES), "variables": dice.choice(SCALARS)})
        document = self._document(path, name, known)
        for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 5))):
            document = self._spoiled(document)
        if isinstance(document, list):
            return "application/json-patch+json", _dump(document)
        body = _dump(document)
        if dice.random() < 0.15:
            try:
                return "application/fhir+xml", to_xml(body)
            except (Failure, ValueError, TypeError, AttributeError, KeyError, RecursionError):
                return "application/fhir+json", body
        return "application/fhir+json", body[: dice.randrange(len(body) + 1)] if dice.random() < 0.03 else body

    def _document(self, path: str, name: str | None, known: tuple[str, ...]) -> Json:
        dice = self._dice
        if "$" in path and dice.random() < 0.8:
            return {
                "resourceType": "Parameters",
                "parameter": [self._parameter() for _ in range(dice.choice((0, 1, 1, 2, 3)))],
            }
        if path.rstrip("/") == "/fhir":
            return self._bundle()
        if dice.random() < 0.12:
            return [
                {
                    "op": dice.choice(("add", "remove", "replace", "move", "copy", "test", "x")),
                    "path": dice.choice(
                        ("/status", "/-", "", "/subject/reference", "/name/0", "/meta/security", "/a/b/c")
                    ),
                    "value": dice.choice(SCALARS),
                }
                for _ in range(dice.choice((1, 2)))
            ]
        resource = self._sample(name)
        if known and dice.random() < 0.9:
            resource["id"] = known[0]
        return resource

    def _sample(self, name: str | None) -> Json:
        of_type = [one for one in self._samples if one["resourceType"] == name] or self._samples
        return orjson.loads(orjson.dumps(self._dice.choice(of_type)))

    def _parameter(self) -> Json:
        dice = self._dice
        value: dict[str, Json] = {
            dice.choice(
                (
                    "valueString",
                    "valueUri",
                    "valueCode",
                    "valueReference",
                    "valueMeta",
                    "valueBoolean",
                    "resource",
                    "part",
                    "valueCoding",
                )
            ): dice.choice((self._word(), self._sample(None), {"reference": self._word()}, *SCALARS))
        }
        return {"name": dice.choice(self._names), **value}

    def _bundle(self) -> Json:
        dice = self._dice
        entries: list[Json] = []
        for _ in range(dice.choice((0, 1, 1, 2, 4))):
            method, shape = dice.choice(FHIR)
            name = self._type_for(method, shape)
            segments, known = self._segments(shape, name)
            query = self._query(name)
            asked = {"method": method, "url": "/".join(segments) + (f"?{query}" if query else "")}
            if dice.random() < 0.1:
                asked[dice.choice(("ifMatch", "ifNoneExist", "ifNoneMatch", "ifModifiedSince"))] = self._word()
            one: Json = {"request": asked}
            if method in ("POST", "PUT", "PATCH"):
                one["resource"] = {**self._sample(name), **({"id": known[0]} if known else {})}
            if dice.random() < 0.2:
                one["fullUrl"] = dice.choice(("urn:uuid:0a1b2c3d-0000-4000-8000-000000000001", self._word()))
            entries.append(one)
        return {
            "resourceType": "Bundle",
            "type": dice.choice(("batch", "batch", "transaction", "document", "x")),
            "entry": entries,
        }

    def _spoiled(self, document: Json) -> Json:
        """The same with one node replaced, doubled, buried or taken away."""
        dice = self._dice
        places: list[tuple[Json, Any]] = []
        pending: list[Json] = [document]
        while pending:
            value = pending.pop()
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in list(items):
                places.append((value, key))
                pending.append(inner)
            if len(places) > MOST_NODES:
                return document
        if not places:
            return dice.choice(SCALARS)
        holder, key = dice.choice(places)
        change: Callable[[Json], Json] = dice.choice(
            (
                lambda _: dice.choice(SCALARS),
                lambda _: self._word(),
                lambda _: {"reference": self._word()},
                lambda old: [old, old],
                lambda old: {"x": old},
                lambda old: [old] * 300,
                lambda old: _buried(old, dice.choice((5, 60, 600))),
            )
        )
        holder[key] = change(holder[key])
        return document


def _buried(value: Json, depth: int) -> Json:
    for _ in range(depth):
        value = {"extension": [value]}
    return value


def _dump(document: Json) -> bytes:
    """JSON, also of what Python's writer of JSON would refuse."""
    try:
        return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        import json

        try:
            return json.dumps(document).encode()
        except (TypeError, ValueError, RecursionError):
            return b"{}"
