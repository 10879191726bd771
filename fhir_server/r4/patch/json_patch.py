"""JSON Patch: test, add, remove, replace, move and copy, each at a JSON Pointer.

https://hl7.org/fhir/R4/http.html#patch, RFC 6902 and RFC 6901.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.outcomes import BadSyntax
from fhir_server.r4.patch import Refusal, json_text, operation

MOST_COPIED: Final = 4 * 1024 * 1024
"""Bytes that the `copy` operations of one patch may add: a few dozen that double a document would fill the memory."""

NEEDS: Final = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "from"),
    "copy": ("path", "from"),
    "test": ("path", "value"),
}
"""The members that each operation must have; others are ignored (RFC 6902 section 4)."""

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_HARMLESS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9]{0,63}|[0-9]{1,4}|-")

Pointer = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Operation:
    op: str
    path: Pointer
    source: Pointer
    value: Any


def apply_json_patch(doc: bytes, patch: bytes) -> bytes:
    """The JSON document `doc` after the JSON Patch `patch`, both UTF-8; every operation is applied, or none.

    Numbers keep their text and members their order, new ones come last; white space goes. Raises BadSyntax (400) for
    what is not JSON or not JSON Patch, and PatchFailed (422) naming the operation, counted from 0, that cannot be
    applied or whose `test` does not hold.
    """
    # The document is the one item of a list, so that the empty pointer has a place as any other has.
    root = [json_text.read(doc, "the document")]
    left = MOST_COPIED
    for number, one in enumerate(_read(json_text.read(patch, "the patch"))):
        with operation(number, one.op, _shown(one.path)):
            left -= _apply(root, one, left)
    return json_text.write(root[0])


def _read(patch: Any) -> Sequence[_Operation]:
    if not isinstance(patch, list):
        raise BadSyntax("a JSON Patch is an array of operations (RFC 6902 section 3)")
    return [_read_operation(number, one) for number, one in enumerate(patch)]


def _read_operation(number: int, one: Any) -> _Operation:
    if not isinstance(one, dict):
        raise BadSyntax(f"operation {number}: must be an object")
    op = one.get("op")
    if not isinstance(op, str) or op not in NEEDS:
        raise BadSyntax(f"operation {number}: `op` must be one of {', '.join(NEEDS)}")
    for name in NEEDS[op]:
        if name not in one:
            raise BadSyntax(f"operation {number} ({op}): `{name}` is missing")
    source = _pointer(number, "from", one["from"]) if "from" in NEEDS[op] else ()
    return _Operation(op, _pointer(number, "path", one["path"]), source, one.get("value"))


def _pointer(number: int, name: str, text: Any) -> Pointer:
    if not isinstance(text, str) or (text and text[0] != "/") or re.search("~(?![01])", text):
        raise BadSyntax(f"operation {number}: `{name}` must be a JSON Pointer (RFC 6901)")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def _apply(root: list[Any], one: _Operation, may_copy: int) -> int:
    """Apply one operation; answers with the bytes that it copied."""
    match one.op:
        case "add":
            _add(root, one.path, one.value)
        case "remove":
            _remove(root, one.path)
        case "replace":
            holder, key = _existing(root, one.path)
            holder[key] = one.value
        case "move":
            _move(root, one.source, one.path)
        case "copy":
            holder, key = _existing(root, one.source)
            text = json_text.write(holder[key])
            if len(text) > may_copy:
                raise Refusal(f"the copies of a patch may add {MOST_COPIED} bytes")
            _add(root, one.path, json_text.read(text, "the copy"))
            return len(text)
        case _:
            holder, key = _existing(root, one.path)
            if not json_text.same(holder[key], one.value):
                raise Refusal("the value there is another one")
    return 0


def _add(root: list[Any], path: Pointer, value: Any) -> None:
    holder, token = _holder(root, path)
    if holder is root:
        root[0] = value
    elif isinstance(holder, dict):
        holder[token] = value
    else:
        holder.insert(len(holder) if token == "-" else _index(path, token, len(holder)), value)


def _remove(root: list[Any], path: Pointer) -> None:
    if not path:
        raise Refusal("the whole document cannot be removed")
    holder, key = _existing(root, path)
    del holder[key]


def _move(root: list[Any], source: Pointer, path: Pointer) -> None:
    holder, key = _existing(root, source)
    if source == path:
        return
    if path[: len(source)] == source:
        raise Refusal(f"{_shown(source)} cannot be moved into itself")
    value = holder[key]
    _remove(root, source)
    _add(root, path, value)


def _holder(root: list[Any], path: Pointer) -> tuple[Any, str]:
    """The object or array that holds, or may come to hold, what the pointer says; and the last token."""
    if not path:
        return root, "0"
    holder = root[0]
    for n in range(len(path) - 1):
        holder = holder[_key(holder, path[: n + 1])]
    if not isinstance(holder, dict | list):
        raise Refusal(f"{_shown(path[:-1])} is neither an object nor an array")
    return holder, path[-1]


def _existing(root: list[Any], path: Pointer) -> tuple[Any, str | int]:
    """The object or array that holds what the pointer says, and the key or index of it there."""
    holder, token = _holder(root, path)
    return (root, 0) if holder is root else (holder, _key(holder, (*path[:-1], token)))


def _key(holder: Any, path: Pointer) -> str | int:
    token = path[-1]
    if isinstance(holder, dict):
        if token in holder:
            return token
    elif isinstance(holder, list):
        return _index(path, token, len(holder) - 1)
    raise Refusal(f"there is no {_shown(path)}")


def _index(path: Pointer, token: str, greatest: int) -> int:
    if not _INDEX.fullmatch(token):
        raise Refusal(f"{_shown(path)} does not end with the index of an array, and {_shown(path[:-1])} is one")
    if int(token) > greatest:
        raise Refusal(f"{_shown(path)} is beyond the end of the array")
    return int(token)


def _shown(path: Pointer) -> str:
    """A pointer for an error text: a token that is no FHIR name and no index could be anything."""
    return "/".join(["", *(token if _HARMLESS.fullmatch(token) else "…" for token in path)]) or "the whole document"
