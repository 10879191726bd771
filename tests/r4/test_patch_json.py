"""JSON Patch: HL7's cases, what must stay as it was, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.outcomes import BadSyntax, Failure
from fhir_server.r4.patch import PatchFailed
from fhir_server.r4.patch.json_patch import apply_json_patch

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fhir-r4" / "patch" / "json-patch-tests.json"
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason="HL7's patch tests are not at hand"), id="absent")]
CASES = (
    [pytest.param(case, id=case["comment"]) for case in json.loads(OFFICIAL.read_bytes())]
    if OFFICIAL.exists()
    else ABSENT
)


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def patched(doc: str, *operations: dict[str, Any]) -> str:
    return apply_json_patch(doc.encode(), compact(operations)).decode()


@pytest.mark.parametrize("case", CASES)
def test_an_official_case_ends_as_hl7_says(case: dict[str, Any]) -> None:
    """Each of HL7's cases gives its document, or is refused."""
    doc, patch = compact(case["doc"]), compact(case["patch"])
    if "error" in case:
        with pytest.raises(PatchFailed):
            apply_json_patch(doc, patch)
    else:
        assert json.loads(apply_json_patch(doc, patch)) == case["expected"]


UNTOUCHED = '{"z":1.50,"a":1E+2,"m":[-0.0,-0,123456789012345678901234567890,1e999],"k":{"b":null,"a":true},"s":"é\\n"}'


def test_what_no_operation_touches_keeps_its_text_and_order() -> None:
    """1.50 is another precision than 1.5 (https://hl7.org/fhir/R4/datatypes.html#decimal), so digits stay."""
    assert patched(UNTOUCHED) == UNTOUCHED
    added = patched(UNTOUCHED, {"op": "add", "path": "/k/z", "value": 1}, {"op": "replace", "path": "/z", "value": "q"})
    assert added == UNTOUCHED.replace('"a":true', '"a":true,"z":1').replace("1.50", '"q"')


def test_numbers_of_the_patch_keep_their_text_too() -> None:
    """Also when they are copied and moved."""
    patch = b"""[{"op": "add", "path": "/a", "value": 2.50}, {"op": "copy", "from": "/a", "path": "/b"},
                 {"op": "move", "from": "/a", "path": "/c"}]"""
    assert apply_json_patch(b"{}", patch) == b'{"b":2.50,"c":2.50}'


def test_a_copy_is_no_alias() -> None:
    """What is done to the copy is not done to the original."""
    operations = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}]
    assert patched('{"a":[1]}', *operations) == '{"a":[1],"b":[1,2]}'


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("1.0", "1"),
        ("100", "1e2"),
        ("-0", "0"),
        ('{"a":1,"b":[]}', '{"b":[],"a":1.0}'),
        ("1e99999999999999999999",) * 2,
    ],
)
def test_a_test_compares_numbers_by_value_and_objects_without_order(there: str, asked: str) -> None:
    """RFC 6902 section 4.6."""
    patch = f'[{{"op": "test", "path": "/x", "value": {asked}}}]'
    assert apply_json_patch(f'{{"x":{there}}}'.encode(), patch.encode()) == f'{{"x":{there}}}'.encode()


OTHERS = [
    ("1", "true"),
    ("0", "false"),
    ('"1"', "1"),
    ("null", "0"),
    ("[]", "{}"),
    ("[1]", "[1,1]"),
    ('{"a":1}', '{"b":1}'),
]
HUGE = ("1e99999999999999999999", "1e99999999999999999998")


@pytest.mark.parametrize(("there", "asked"), [*OTHERS, HUGE])
def test_a_test_tells_kinds_apart(there: str, asked: str) -> None:
    """True is not 1, and an empty array is not an empty object."""
    with pytest.raises(PatchFailed, match="another one"):
        apply_json_patch(f'{{"x":{there}}}'.encode(), f'[{{"op": "test", "path": "/x", "value": {asked}}}]'.encode())


def test_the_whole_document_can_be_replaced_tested_and_copied() -> None:
    """The empty pointer is the document (RFC 6901 section 5)."""
    assert patched('{"a":1}', {"op": "test", "path": "", "value": {"a": 1}}) == '{"a":1}'
    assert patched('{"a":1}', {"op": "add", "path": "", "value": [1]}) == "[1]"
    assert patched('{"a":1}', {"op": "replace", "path": "", "value": 2}) == "2"
    assert patched('{"a":1}', {"op": "copy", "from": "", "path": "/b"}) == '{"a":1,"b":{"a":1}}'
    assert patched('{"a":[1]}', {"op": "move", "from": "/a", "path": ""}) == "[1]"


def test_moving_to_where_it_is_changes_nothing() -> None:
    """Not even the order of members."""
    assert patched('{"a":1,"b":2}', {"op": "move", "from": "/a", "path": "/a"}) == '{"a":1,"b":2}'


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"op": "remove", "path": ""}, "operation 0 (remove the whole document): the whole document cannot be removed"),
    ({"op": "remove", "path": "/b"}, "operation 0 (remove /b): there is no /b"),
    ({"op": "replace", "path": "/b", "value": 1}, "operation 0 (replace /b): there is no /b"),
    ({"op": "test", "path": "/b", "value": None}, "operation 0 (test /b): there is no /b"),
    ({"op": "remove", "path": "/a/-"}, "does not end with the index of an array, and /a is one"),
    ({"op": "add", "path": "/a/01", "value": 1}, "does not end with the index of an array, and /a is one"),
    ({"op": "add", "path": "/a/+1", "value": 1}, "does not end with the index of an array, and /a is one"),
    ({"op": "add", "path": "/a/٠", "value": 1}, "does not end with the index of an array, and /a is one"),
    ({"op": "add", "path": "/a/3", "value": 1}, "/a/3 is beyond the end of the array"),
    ({"op": "replace", "path": "/a/2", "value": 1}, "/a/2 is beyond the end of the array"),
    ({"op": "add", "path": "/s/b", "value": 1}, "/s is neither an object nor an array"),
    ({"op": "add", "path": "/s/b/c", "value": 1}, "there is no /s/b"),
    ({"op": "move", "from": "/o", "path": "/o/p/q"}, "/o cannot be moved into itself"),
    ({"op": "move", "from": "", "path": "/b"}, "the whole document cannot be moved into itself"),
    ({"op": "move", "from": "/b", "path": "/c"}, "operation 0 (move /c): there is no /b"),
    ({"op": "copy", "from": "/b", "path": "/c"}, "operation 0 (copy /c): there is no /b"),
]


@pytest.mark.parametrize(("operation", "said"), REFUSED)
def test_an_operation_that_does_not_fit_is_refused(operation: dict[str, Any], said: str) -> None:
    """422, with the operation, its place and what is wrong."""
    with pytest.raises(PatchFailed) as refused:
        patched('{"a":[1,2],"s":"x","o":{"p":{}}}', operation)
    assert said in refused.value.diagnostics
    assert (refused.value.status, refused.value.code) == (422, "processing")


def test_the_operation_that_failed_is_named() -> None:
    """They are counted from 0, as JSON Pointers count."""
    add = {"op": "add", "path": "/a", "value": 1}
    with pytest.raises(PatchFailed, match=r"^operation 2 \(remove /b\): there is no /b$"):
        patched("{}", add, add, {"op": "remove", "path": "/b"}, add)


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "the patch is not JSON: line 1, column 1"),
    (b"[{]", "the patch is not JSON: line 1, column 3"),
    (b'["\xff"]', "the patch is not UTF-8"),
    (b"[NaN]", "the patch is not JSON: NaN is not a number of JSON"),
    (b"[" * 100_000, "the patch is nested too deep"),
    (
        b'[{"op": "add", "path": "/a", "value": 1, "op": "remove"}]',
        "a member occurs twice in an object",
    ),  # RFC 6902 A.13
    (b"{}", "a JSON Patch is an array of operations"),
    (b"[1]", "operation 0: must be an object"),
    (b'[{"path": "/a"}]', "operation 0: `op` must be one of add, remove, replace, move, copy, test"),
    (b'[{"op": ["add"], "path": "/a"}]', "operation 0: `op` must be one of"),
    (b'[{"op": "Dupont", "path": "/a"}]', "operation 0: `op` must be one of"),
    (b'[{"op": "add", "path": "/a"}]', "operation 0 (add): `value` is missing"),
    (b'[{"op": "remove"}]', "operation 0 (remove): `path` is missing"),
    (b'[{"op": "move", "path": "/a"}]', "operation 0 (move): `from` is missing"),
    (b'[{"op": "remove", "path": 1}]', "operation 0: `path` must be a JSON Pointer"),
    (b'[{"op": "remove", "path": "a"}]', "operation 0: `path` must be a JSON Pointer"),
    (b'[{"op": "remove", "path": "/a~2"}]', "operation 0: `path` must be a JSON Pointer"),
    (b'[{"op": "copy", "path": "/a", "from": "~"}]', "operation 0: `from` must be a JSON Pointer"),
]


@pytest.mark.parametrize(("patch", "said"), MALFORMED)
def test_what_is_no_json_patch_is_refused_as_such(patch: bytes, said: str) -> None:
    """400, before anything is applied."""
    with pytest.raises(BadSyntax) as refused:
        apply_json_patch(b"{}", patch)
    assert said in refused.value.diagnostics
    assert "Dupont" not in refused.value.diagnostics


def test_a_bad_operation_is_found_before_the_first_is_applied() -> None:
    """The answer does not depend on whether an earlier one fails."""
    with pytest.raises(BadSyntax):
        patched("{}", {"op": "remove", "path": "/none"}, {"op": "nope"})


@pytest.mark.parametrize("doc", [b"", b"{", b'{"a":1,"a":2}', b"\xff", b'"\\ud800"', b"[" * 300 + b"]" * 300])
def test_a_document_that_cannot_be_json_is_refused(doc: bytes) -> None:
    """Nothing but a Failure leaves."""
    with pytest.raises(BadSyntax):
        apply_json_patch(doc, b"[]")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/name/0/family", "value": "MARTIN"},
        {"op": "remove", "path": "/name/Jeanne Marie/DUPONT~1x"},
        {"op": "remove", "path": "/identifier/185027512345678"},
        {"op": "move", "from": "/né le 1", "path": "/a"},
    ],
)
def test_no_error_quotes_the_document_or_the_patch(operation: dict[str, Any]) -> None:
    """A name, an INS or a birth date may stand in any of the three, a pointer included."""
    with pytest.raises(PatchFailed) as refused:
        patched('{"name":[{"family":"DUPONT"}],"identifier":["185027512345678"]}', operation)
    assert not any(word in refused.value.diagnostics for word in ("DUPONT", "MARTIN", "Jeanne", "1850", "né"))


def test_copies_cannot_fill_the_memory() -> None:
    """Sixty operations that each double the document would be 2^60 times its size."""
    bomb = [{"op": "copy", "from": "", "path": "/-"}] * 60
    with pytest.raises(PatchFailed, match="the copies of a patch may add"):
        patched('["0123456789"]', *bomb)


def test_moves_cannot_exhaust_the_stack() -> None:
    """Each move may put one object into another."""
    doc = compact({"a": {}, **{f"b{n}": {} for n in range(2000)}})
    moves: list[dict[str, Any]] = []
    for n in range(2000):
        moves += [{"op": "move", "from": "/a", "path": f"/b{n}/x"}, {"op": "move", "from": f"/b{n}", "path": "/a"}]
    with pytest.raises(BadSyntax, match="nested too deep"):
        apply_json_patch(doc, compact(moves))
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"x": deep}
    halves = [{"op": "copy", "from": "/a", "path": "/c"}, {"op": "test", "path": "/a", "value": deep}]
    with pytest.raises(Failure, match="nested too deep"):
        apply_json_patch(doc, compact([*moves, *halves]))


class Impossible(Exception):
    """The oracle's refusal."""


def oracle(document: Any, operation: dict[str, Any]) -> Any:
    """RFC 6902 section 4 word for word, on plain Python values; answers with the new document."""
    document = copy.deepcopy(document)

    def split(pointer: str) -> list[str]:
        return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]

    def step(holder: Any, token: str) -> Any:
        if isinstance(holder, dict):
            if token not in holder:
                raise Impossible
            return token
        if not isinstance(holder, list) or token not in {str(n) for n in range(len(holder))}:
            raise Impossible
        return int(token)

    def get(pointer: str) -> Any:
        found = document
        for token in split(pointer):
            found = found[step(found, token)]
        return found

    def parent(pointer: str) -> tuple[Any, str]:
        before, _, _ = pointer.rpartition("/")
        return get(before), split(pointer)[-1]

    def remove(pointer: str) -> None:
        if not pointer:
            raise Impossible
        holder, token = parent(pointer)
        del holder[step(holder, token)]

    def add(pointer: str, value: Any) -> Any:
        if not pointer:
            return value
        holder, token = parent(pointer)
        if isinstance(holder, dict):
            holder[token] = value
        elif isinstance(holder, list) and token in {"-", *map(str, range(len(holder) + 1))}:
            holder.insert(len(holder) if token == "-" else int(token), value)
        else:
            raise Impossible
        return document

    path, value = operation["path"], copy.deepcopy(operation.get("value"))
    match operation["op"]:
        case "add":
            return add(path, value)
        case "remove":
            remove(path)
        case "replace":
            if not path:
                return value
            holder, token = parent(path)
            holder[step(holder, token)] = value
        case "move":
            source = operation["from"]
            value = get(source)
            if source != path:
                if path.startswith(source + "/"):
                    raise Impossible
                remove(source)
                return add(path, value)
        case "copy":
            return add(path, copy.deepcopy(get(operation["from"])))
        case "test":
            if json.dumps(get(path), sort_keys=True) != json.dumps(value, sort_keys=True):
                raise Impossible
    return document


KEYS = st.sampled_from(["a", "b", "", "~", "/", "~1", "0", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("aé~/\n", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def pointers(value: Any, here: str = "") -> list[str]:
    """Every place of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [here]
    for key, item in inside:
        found += pointers(item, f"{here}/{str(key).replace('~', '~0').replace('/', '~1')}")
    return found


def found_at(document: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        document = document[int(key) if isinstance(document, list) else key]
    return document


@settings(max_examples=400)
@given(VALUES, st.data())
def test_random_patches_do_what_the_rfc_says(document: Any, data: st.DataObject) -> None:
    """Byte for byte, so with the members in the order that results from the operations one by one."""
    start, operations, state = compact(document), [], document
    for _ in range(data.draw(st.integers(1, 4))):
        places = st.sampled_from(pointers(state))
        beyond = st.builds("{}/{}".format, places, st.sampled_from(["-", "0", "1", "2", "01", "a", "new", ""]))
        op = data.draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]))
        path = data.draw(places | beyond)
        operation: dict[str, Any] = {
            "op": op,
            "path": path,
            "from": data.draw(places | beyond),
            "value": data.draw(VALUES),
        }
        if op == "test" and path in pointers(state) and data.draw(st.booleans()):
            operation["value"] = found_at(state, path)
        operations.append(operation)
        try:
            state = oracle(state, operation)
        except Impossible:
            with pytest.raises(PatchFailed, match=f"^operation {len(operations) - 1} "):
                apply_json_patch(start, compact(operations))
            return
    assert apply_json_patch(start, compact(operations)) == compact(state)


@given(
    VALUES, VALUES | st.lists(st.fixed_dictionaries({"op": st.sampled_from(["add", "move", "test"]), "path": VALUES}))
)
def test_any_json_is_a_patch_or_refused(document: Any, patch: Any) -> None:
    """Nothing that JSON can say makes it raise anything but BadSyntax or PatchFailed."""
    start = compact(document)
    try:
        result = apply_json_patch(start, compact(patch))
    except (BadSyntax, PatchFailed) as refusal:
        assert refusal.diagnostics
    else:
        assert compact(json.loads(result)) == result
