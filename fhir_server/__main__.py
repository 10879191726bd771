"""The command `dmst-fhir`: the table of its words. What each does is in commands/."""

import sys
from collections.abc import Callable, Mapping

import typer

from fhir_server.commands import (
    audit,
    clients,
    database,
    delegations,
    documents,
    identities,
    keys,
    lots,
    models,
    persons,
    processes,
    registers,
    retention,
    review,
    roles,
    workers,
)

Words = Mapping[str, Callable[..., None]]

WORDS: Words = {
    "serve": processes.serve,
    "work": processes.work,
    "migrate": database.migrate,
    "search-parameters": database.search_parameters,
    "ingest": lots.ingest,
    "evidence": documents.evidence,
    "demo": processes.demo,
    "recall": documents.recall,
    "redact": documents.redact,
}
GROUPS: Mapping[str, tuple[str, Words]] = {
    "audit": (
        "The trail of accesses: verify its seals, hand it out.",
        {"verify": audit.verify, "export": audit.export},
    ),
    "retention": (
        "How long documents are kept: holds, lists, destruction.",
        {
            "hold": retention.hold,
            "release": retention.release,
            "due": retention.due,
            "approve": retention.approve,
            "delete": retention.delete,
            "lists": retention.lists,
        },
    ),
    "clients": (
        "Machines that may ask: add, list, shut out.",
        {
            "add": clients.add,
            "keys": clients.replace_keys,
            "list": clients.listed,
            "disable": clients.disable,
        },
    ),
    "persons": (
        "Whose record a worker sees, and centres of professionals.",
        {
            "link": persons.link,
            "unlink": persons.unlink,
            "join": persons.join,
            "leave": persons.leave,
            "list": persons.listed,
        },
    ),
    "roles": (
        "Who may see what, as the law has it and this service lays down.",
        {"show": roles.show, "restrict": roles.restrict, "history": roles.history},
    ),
    "delegations": (
        "Delegations of the médecin du travail (R4624-45-5).",
        {"give": delegations.give, "end": delegations.end, "list": delegations.listed},
    ),
    "workers": (
        "The register of workers.",
        {"import": workers.import_csv},
    ),
    "lot": (
        "Scan lots: build one, look at those received.",
        {"build": lots.build, "list": lots.listed, "manifest": lots.manifest},
    ),
    "review": (
        "Folders that wait for a person.",
        {
            "list": review.listed,
            "show": review.show,
            "attach": review.attach,
            "dismiss": review.dismiss,
            "aside": review.aside,
            "back": review.back,
            "several": review.several,
            "ask": review.ask,
            "confirm": review.confirm,
            "disagree": review.disagree,
            "flag": review.flag,
            "undo": review.undo,
            "look-again": review.look_again,
            "acknowledge": review.acknowledge,
        },
    ),
    "identities": (
        "Identities of the register: links between two, cases, what was decided.",
        {
            "link": identities.link,
            "unlink": identities.unlink,
            "cases": identities.cases,
            "close": identities.close,
            "history": identities.history,
            "labels": identities.labels,
            "compare": registers.compare,
            "dedupe": registers.dedupe,
            "train": models.train,
        },
    ),
    "keys": (
        "The keys under which documents are encrypted.",
        {
            "make": keys.make,
            "status": keys.status,
            "rotate": keys.rotate,
            "retire": keys.retire,
            "encrypt": keys.encrypt,
            "shredded": keys.shredded,
        },
    ),
}
MODEL: tuple[str, Words] = (
    "The model by which identities are weighed: what a file is, whether it can be used.",
    {"show": models.show, "check": models.check},
)


def command() -> typer.Typer:
    """The whole command."""
    whole = _group("FHIR R4 interoperability server for scanned occupational-health records (DMST).", WORDS)
    for name, (about, words) in GROUPS.items():
        group = _group(about, words)
        if name == "identities":
            group.add_typer(_group(*MODEL), name="model")
        whole.add_typer(group, name=name)
    return whole


def _group(about: str, words: Words) -> typer.Typer:
    group = typer.Typer(help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    for name, word in words.items():
        group.command(name)(word)
    return group


app = command()


def main() -> None:
    """Entry point of the command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
