"""What every word shares: its settings, the parts that it runs on, and how it tells what came of it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fhir_server import logs
from fhir_server.outcomes import Failure
from fhir_server.settings import Settings, load

if TYPE_CHECKING:
    from fhir_server.app import Parts

out = Console()
err = Console(stderr=True)

Data = Annotated[Path | None, typer.Option("--data", help="Folder of everything kept on disk (DMST_FHIR_DATA).")]
By = Annotated[str, typer.Option(help="Who decides (your user name).")]


class Tell(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, of: int | None = None, /) -> None: ...


def settings_of(data: Path | None = None, **more: Any) -> Settings:
    """The settings, with what was said on the command line before them; the log is set up as they say."""
    given: dict[str, Any] = {key: value for key, value in {"data": data, **more}.items() if value is not None}
    with failures_told():
        settings = load(**given)
    logs.configure(settings.log_level, settings.log_format)
    return settings


@contextlib.contextmanager
def failures_told() -> Generator[None]:
    """A Failure is a sentence and status 1, not a traceback."""
    try:
        yield
    except Failure as failure:
        for issue in failure.issues:
            where = f" ({issue.expression})" if issue.expression else ""
            err.print(f"[red]{issue.code}[/red] {issue.diagnostics}{where}")
        raise typer.Exit(1) from None


@contextlib.asynccontextmanager
async def parts_of(settings: Settings) -> AsyncGenerator["Parts"]:
    """What app.py builds, closed at the end."""
    from fhir_server.app import build

    async with build(settings) as parts:
        yield parts


def run_to_end(work: Callable[[], Awaitable[int | None]]) -> None:
    """Run `work`, which returns the status of the command; None is 0."""

    async def run() -> int | None:
        return await work()

    with failures_told():
        status = asyncio.run(run())
    if status:
        raise typer.Exit(status)


@contextlib.contextmanager
def progress(what: str) -> Generator[Tell]:
    """A bar, beside what the command writes; what is yielded moves it."""
    with Progress(console=err, transient=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of=None, /: bar.update(task, completed=done, total=of)


def table_of(*columns: str) -> Table:
    """A table as all of them look."""
    return Table(*columns, box=None, pad_edge=False)
