"""The documentation against the code: settings, commands, links and decisions are what the pages say they are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fhir_server.__main__ import app
from fhir_server.settings import Settings

ROOT = Path(__file__).parents[1]
NOT_OURS = {"node_modules", "target", "demo-data", "var", "dist"}
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_OURS for part in page.relative_to(ROOT).parts)
)
FILES = {"DMST_FHIR_SETTINGS", "DMST_FHIR_SECRETS"}  # name the files that settings may come from
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
SECTIONS = ("Context", "Decision", "Consequences", "Alternatives")

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_SETTING = re.compile(r"^\| `(DMST_FHIR_[A-Z0-9_]+)` \| `([^`]*)` \| (.+) \|$", re.MULTILINE)
_COMMAND = re.compile(r"\bdmst-fhir((?: +[^|;&#\n]+)?)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _environment_name(field: str) -> str:
    return f"{Settings.model_config.get('env_prefix')}{field}".upper()


def _shown(default: object) -> str:
    """A default as the page writes it."""
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _settings_page() -> dict[str, tuple[str, str]]:
    """{environment name: (default, meaning)} of docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    return {name: (default, meaning) for name, default, meaning in _SETTING.findall(text)}


def test_every_setting_has_its_line_and_no_line_is_stale() -> None:
    """docs/settings.md names the environment variable of each field, and nothing else."""
    assert set(_settings_page()) == {_environment_name(field) for field in Settings.model_fields}


@pytest.mark.parametrize("field", Settings.model_fields)
def test_the_default_of_a_setting_is_the_one_written_down(field: str) -> None:
    """The default on the page is the default in the code, and the meaning is said."""
    default, meaning = _settings_page()[_environment_name(field)]
    assert default == _shown(Settings.model_fields[field].default)
    assert meaning.strip()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_names_only_settings_that_exist(page: Path) -> None:
    """Every DMST_FHIR_* that a page mentions is a field of Settings."""
    mentioned = set(re.findall(r"\bDMST_FHIR_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert mentioned <= {_environment_name(field) for field in Settings.model_fields} | FILES


def test_decisions_are_numbered_without_a_gap() -> None:
    """docs/adr/ holds one file per number, from 1."""
    assert [int(adr.name[:4]) for adr in ADRS] == list(range(1, len(ADRS) + 1))


@pytest.mark.parametrize("adr", ADRS, ids=_name)
def test_a_decision_has_its_four_sections(adr: Path) -> None:
    """Context, Decision, Consequences and Alternatives are there, in this order, and none is empty."""
    bodies = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", adr.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    assert [name for name in bodies if name in SECTIONS] == list(SECTIONS)
    assert all(bodies[name].strip() for name in SECTIONS)


def _anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Every relative link is a file or folder of this repository, and its anchor a heading there."""
    text = _INLINE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    lost: list[str] = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(link)
    assert lost == []


def _commands_of(page: Path) -> Iterator[list[str]]:
    """The words after each `dmst-fhir` in the code of a page."""
    text = page.read_text(encoding="utf-8")
    code = [re.sub(r"\\\n", " ", block) for block in _FENCE.findall(text)]
    code += _INLINE.findall(_FENCE.sub("", text))
    for block in code:
        for words in _COMMAND.findall(block):
            yield words.split()


def _fault(words: list[str]) -> str | None:
    """What is wrong with a command line, None where the program would understand its words and options."""
    command: Any = typer.main.get_command(app)
    left = list(words)
    while hasattr(command, "commands") and left and not left[0].startswith("-"):
        if left[0] not in command.commands:
            return f"no such command: {left[0]}"
        command = command.commands[left.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in left if word.startswith("--") and word.partition("=")[0] not in known]
    return f"no such option: {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    """Every dmst-fhir command in code, with its options, is one that the program has."""
    faults = {" ".join(words): fault for words in _commands_of(page) if words and (fault := _fault(words))}
    assert faults == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    """The check above is not empty: it refuses a wrong command, a wrong option, and sees the right ones."""
    assert _fault(["fly"]) == "no such command: fly"
    assert _fault(["clients", "remove"]) == "no such command: remove"
    assert _fault(["clients", "list", "--colour"]) == "no such option: --colour"
    assert _fault(["clients", "list", "--data", "x"]) is None
    assert ["clients", "add"] in [words[:2] for words in _commands_of(ROOT / "docs" / "operator.md")]


def test_every_top_folder_says_what_it_is() -> None:
    """A newcomer finds a README.md in each folder of the repository."""
    folders = {Path(page.relative_to(ROOT).parts[0]) for page in PAGES if len(page.relative_to(ROOT).parts) > 1}
    folders |= {
        Path(folder) for folder in ("fhir_server", "adapters", "mappings", "terminology", "tests", "docs", "docker")
    }
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "README.md").exists()] == []


def test_the_scenarios_that_are_told_are_there() -> None:
    """tests/README.md names files and functions that exist."""
    here = Path(__file__).parent
    named = re.findall(r"`((?:\w+/)+\w+\.py)(?:::(\w+))?`", (here / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 12
    for file, function in named:
        if file.startswith(("fhir_server/", "tests/")):
            continue
        assert f"def {function}" in (here / file).read_text(encoding="utf-8"), (file, function)
