"""The files of an export: resources appended by type, and what of them counts after a crash.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-output-file-request - the database says how long each file is;
bytes beyond that were written by somebody who died, and are cut off.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from fhir_server.r4.resource_types import TYPE_NAME
from fhir_server.store.bulk_jobs import ExportFile

MOST_RESOURCES = 100_000
MOST_BYTES = 1024**3
OUTPUT, DELETED = "output", "deleted"


class ExportFiles:
    """The files of one export in one folder. Blocking: call it in a thread."""

    def __init__(self, folder: Path, kept: Iterable[ExportFile]) -> None:
        self._folder = folder
        self._last: dict[tuple[str, int], ExportFile] = {}
        self._open: dict[str, BinaryIO] = {}
        self._changed: dict[str, ExportFile] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = list(kept)
        for path in folder.iterdir():
            if path.name not in {file.name for file in known}:
                path.unlink()
        for file in known:
            of = (file.kind, file.type)
            self._numbers[of] = self._numbers.get(of, 0) + 1
            last = self._last.get(of)
            if last is None or _number(file) > _number(last):
                self._last[of] = file

    def append(self, kind: str, type_number: int, resources: list[bytes]) -> None:
        """Resources of one type, each one line."""
        file = self._file(kind, type_number)
        content = b"\n".join((*resources, b""))
        self._open[file.name].write(content)
        grown = file._replace(resources=file.resources + len(resources), size=file.size + len(content))
        self._last[kind, type_number] = self._changed[file.name] = grown

    def flush(self) -> list[ExportFile]:
        """Returns when everything is on disk for good: the files that grew."""
        for name in self._changed:
            self._open[name].flush()
            os.fsync(self._open[name].fileno())
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _file(self, kind: str, type_number: int) -> ExportFile:
        of = (kind, type_number)
        file = self._last.get(of)
        if file is None or file.resources >= MOST_RESOURCES or file.size >= MOST_BYTES:
            self._numbers[of] = self._numbers.get(of, 0) + 1
            prefix = "" if kind == OUTPUT else f"{kind}."
            file = ExportFile(f"{prefix}{TYPE_NAME[type_number]}.{self._numbers[of]}.ndjson", kind, type_number, 0, 0)
            self._last[of] = file
        if file.name not in self._open:
            opened = (self._folder / file.name).open("r+b" if file.size else "wb")
            opened.truncate(file.size)
            opened.seek(file.size)
            self._open[file.name] = opened
        return file


def _number(file: ExportFile) -> int:
    return int(file.name.split(".")[-2])
