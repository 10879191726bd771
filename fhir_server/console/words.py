"""What the console says: words.toml, read once and checked."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

About = Literal["worker", "maybe-worker", "folder", "documents"]


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decision as it is offered; `about` is what its form asks for."""

    decision: str
    key: str
    label: str
    submit: str
    help: str
    about: About


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tables, explained on top of the file."""

    trait: dict[str, tuple[str, str]]
    step: dict[str, dict[str, str]]
    says: dict[str, str]
    grade: dict[str, str]
    verdict: dict[str, tuple[str, str]]
    status: dict[str, str]
    attribute: dict[str, str]
    sex: dict[str, str]
    state: dict[str, str]
    action: tuple[Action, ...]
    done: dict[str, str]
    event: dict[str, str]
    failure: dict[str, tuple[str, str]]


@cache
def words() -> Words:
    return msgspec.convert(
        tomllib.loads((files("fhir_server.console") / "words.toml").read_text(encoding="utf-8")), Words
    )
