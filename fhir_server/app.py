"""Composition root: settings become a running service here, and nothing is built elsewhere."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from procrastinate import PsycopgConnector
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapters import ADAPTERS
from adapters.time_stamping import TimeStampingService
from fhir_server import embedded, logs, traces
from fhir_server.console.references import References
from fhir_server.console.routes import Console, console_routes
from fhir_server.dispatch import Dispatcher
from fhir_server.identity.matcher import Matcher
from fhir_server.identity.model_file import model_of
from fhir_server.intake.document import DocumentIntake
from fhir_server.intake.identity_links import IdentityLinks
from fhir_server.intake.register import RegisterIntake, service_id_of
from fhir_server.intake.review import Review
from fhir_server.intake.review_pages import ReviewPages
from fhir_server.intake.scan_lot import LotIntake
from fhir_server.linkage.model import Model
from fhir_server.metrics import Metrics
from fhir_server.metrics_port import metrics_port
from fhir_server.outbox import recipients as recipient_file
from fhir_server.outbox.jobs import Jobs
from fhir_server.outbox.recipients import Recipient
from fhir_server.outcomes import BadParameter, Failure
from fhir_server.ports import Adapter, BlobStore, MasterKeys
from fhir_server.records.bulk import Bulk
from fhir_server.records.failures import Failures
from fhir_server.records.read import Archive
from fhir_server.records.redaction import Redactor
from fhir_server.records.trail_anchor import Anchoring
from fhir_server.records.transfer import Transfers
from fhir_server.records.write import Door
from fhir_server.rest.authentication import Authentication
from fhir_server.rest.edge import Edge
from fhir_server.rest.health import health_routes
from fhir_server.rest.http import failure_answer
from fhir_server.rest.limits import Limits
from fhir_server.rest.metrics import Exposition, metrics_route
from fhir_server.rest.oauth.assertion import Assertions
from fhir_server.rest.oauth.certificates import Certificates
from fhir_server.rest.oauth.issuer import issuer_of
from fhir_server.rest.oauth.key_source import KeySources
from fhir_server.rest.oauth.login import login_of, login_routes
from fhir_server.rest.oauth.login_trail import Logins
from fhir_server.rest.oauth.outbound import outbound_of
from fhir_server.rest.oauth.sessions import Sessions
from fhir_server.rest.openapi import docs_routes
from fhir_server.rest.page_links import PageLinks
from fhir_server.rest.service import Service
from fhir_server.rest.standings import Standings
from fhir_server.rest.token import token_route
from fhir_server.rest.watch import Watch
from fhir_server.retention import periods
from fhir_server.retention.destruction import Destroyer
from fhir_server.retention.due import DueDocuments
from fhir_server.settings import Settings, load, secret
from fhir_server.store import candidates, reindex
from fhir_server.store.access_log import AccessLog
from fhir_server.store.audit_seals import AuditSeals
from fhir_server.store.blob_keys import BlobKeys
from fhir_server.store.blobs import Blobs
from fhir_server.store.blobs_sealed import SealedBlobs
from fhir_server.store.clients import Clients
from fhir_server.store.commit import Commits
from fhir_server.store.custom_parameters import CustomParameters
from fhir_server.store.database import Database, migrate, noticing
from fhir_server.store.expunge import Expunge
from fhir_server.store.master_keys import KeyFile
from fhir_server.store.parameter_index import index_forever
from fhir_server.store.persons import Persons
from fhir_server.store.replica import Replica
from fhir_server.store.retention import RetentionRows
from fhir_server.store.role_editions import RoleEditions
from fhir_server.store.search import Search
from fhir_server.store.shredding import Shredder
from fhir_server.store.transient import Transient
from fhir_server.store.uploads import Uploads

log = structlog.get_logger(__name__)

FHIR = re.compile(r"/fhir(/|$)")
# FastAPI's own would tell the bodies and the exceptions of token requests to whatever the environment names.
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that was built, for those who run it: the server, the worker, the command line, the tests."""

    settings: Settings
    postgres: str
    database: Database
    parameters: CustomParameters
    blobs: BlobStore
    clients: Clients
    role_editions: RoleEditions
    persons: Persons
    archive: Archive
    door: Door
    jobs: Jobs
    bulk: Bulk
    matcher: Matcher
    transient: Transient
    uploads: Uploads
    recipients: tuple[Recipient, ...]
    documents: DocumentIntake
    lots: LotIntake
    register: RegisterIntake
    review: Review
    review_pages: ReviewPages
    identities: IdentityLinks
    identity_model: Model
    metrics: Metrics
    seals: AuditSeals
    shredder: Shredder | None
    """None where documents are kept in the clear: then their bytes stay."""

    @property
    def redactor(self) -> Redactor:
        return Redactor(self.door, self.archive, self.jobs, self.settings)

    @property
    def transfers(self) -> Transfers:
        return Transfers(self.door, self.archive, self.jobs, self.recipients, self.settings)


@contextlib.asynccontextmanager
async def build(settings: Settings, metrics: Metrics | None = None) -> AsyncGenerator[Parts]:
    """Start what the settings say (embedded servers included), migrate, and wire the parts together.

    The parts count into `metrics`.
    Raises Unavailable when PostgreSQL cannot be reached, BadParameter for a model of identities that cannot be used.
    Leaving it finishes what is under way.
    """
    metrics = metrics or Metrics()
    model = model_of(settings.identity_model)
    async with contextlib.AsyncExitStack() as stack:
        metrics.traces = stack.enter_context(traces.exporting(settings.otlp_endpoint))
        postgres, redis_url = secret(settings.postgres), secret(settings.redis)
        if postgres is None or redis_url is None:
            servers = await asyncio.to_thread(stack.enter_context, embedded.running(settings.data))
            postgres, redis_url = postgres or servers.postgres, redis_url or servers.redis
        postgres = noticing(postgres)
        _warn(settings)
        for name in await migrate(postgres):
            log.info("migration applied", name=name)
        database = Database(
            postgres,
            connections=settings.connections,
            statement_timeout_ms=settings.statement_timeout_ms,
            metrics=metrics,
            tenant=settings.tenant,
        )
        await database.open()
        stack.push_async_callback(database.close)
        parameters = CustomParameters(database, pause=settings.parameters_seconds, content=settings.content_search)
        await parameters.refresh()
        clients = Clients(database)
        await clients.key(candidates.SECRET)
        await reindex.bring_up_to_date(database)
        role_editions = RoleEditions(database)
        await role_editions.refresh()
        await stack.enter_async_context(_beside(role_editions.keep_fresh()))
        await stack.enter_async_context(_beside(parameters.keep_fresh()))
        masters = make_master_keys(settings)
        stack.callback(masters.close)
        blobs = await _open_or_sealed(BlobKeys(database, masters), settings, metrics)
        await asyncio.to_thread(blobs.open)
        uploads = Uploads(database, settings.home / "uploads", hours=settings.upload_hours)
        await uploads.open()
        commits = Commits(database, parameters, metrics=metrics)
        accesses = AccessLog(database, sync=settings.audit_sync, metrics=metrics)
        stack.push_async_callback(commits.drain)
        stack.push_async_callback(accesses.drain)
        transient = Transient(
            Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2), tenant=settings.tenant
        )
        stack.push_async_callback(transient.close)
        searches = Search(await stack.enter_async_context(_for_searches(database, settings, metrics)))
        archive = Archive.over(database, searches, blobs, accesses, metrics)
        jobs = Jobs(PsycopgConnector(conninfo=postgres), tenant=settings.tenant)
        door = Door(commits, jobs)
        bulk = Bulk(database=database, blobs=blobs, jobs=jobs, accesses=accesses, settings=settings)
        recipients = recipient_file.load(settings.recipients)
        matcher = Matcher(searches, candidates.Candidates(database, metrics), model, production=settings.production)
        documents = DocumentIntake(
            door=door,
            archive=archive,
            database=database,
            jobs=jobs,
            recipients=recipients,
            matcher=matcher,
            settings=settings,
        )
        lots = LotIntake(documents=documents, database=database, blobs=blobs, transient=transient, settings=settings)
        stack.push_async_callback(lots.close)
        register = RegisterIntake(door=door, archive=archive, settings=settings)
        yield Parts(
            settings,
            postgres,
            database,
            parameters,
            blobs,
            clients,
            role_editions,
            Persons(database),
            archive,
            door,
            jobs,
            bulk,
            matcher,
            transient,
            uploads,
            recipients,
            documents,
            lots,
            register,
            Review(documents=documents, door=door, archive=archive, database=database, settings=settings),
            ReviewPages(documents=documents, archive=archive, database=database, settings=settings),
            IdentityLinks(door=door, archive=archive, database=database, settings=settings),
            model,
            metrics,
            AuditSeals(database),
            Shredder(database, blobs.below) if isinstance(blobs, SealedBlobs) and blobs.sealing else None,
        )


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Work that goes on beside everything else, and is cancelled at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _for_searches(database: Database, settings: Settings, metrics: Metrics) -> AsyncGenerator[Database]:
    """The replica of the settings, followed while it is entered; the primary where there is none."""
    dsn = secret(settings.postgres_replica)
    if dsn is None:
        yield database
        return
    replica = Replica(
        noticing(dsn),
        database,
        oldest_seconds=settings.replica_oldest_seconds,
        connections=settings.connections,
        statement_timeout_ms=settings.statement_timeout_ms,
        metrics=metrics,
    )
    async with _beside(replica.follow()):
        yield replica
    await replica.close()


def make_blobs(settings: Settings, metrics: Metrics) -> BlobStore:
    """The blob store that the settings name."""
    if settings.blob_bucket is None:
        return Blobs(settings.blob_folder, metrics)
    from fhir_server.store import blobs_s3  # its client is an extra, for those who have such a store

    return blobs_s3.connect(
        settings.blob_bucket,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=secret(settings.s3_access_key),
        secret_key=secret(settings.s3_secret_key),
    )


def make_master_keys(settings: Settings) -> MasterKeys:
    """The master keys that the settings name: a device, or a file that need not be there."""
    if settings.pkcs11_module is None:
        return KeyFile(settings.key_file)
    from fhir_server.store.master_keys_pkcs11 import DeviceKeys  # an extra, for those who have such a device

    pin = secret(settings.pkcs11_pin)
    return DeviceKeys(settings.pkcs11_module, settings.pkcs11_token, pin, tenant=settings.tenant)


async def _open_or_sealed(keys: BlobKeys, settings: Settings, metrics: Metrics) -> BlobStore:
    """The blob store as others see it: encrypted as soon as there is a master key, which the first start makes.

    Raises Unavailable or Damaged where a master key in use is not here, or is another.
    """
    if not await keys.start(make=settings.encrypt_blobs):
        return make_blobs(settings, metrics)
    if settings.pkcs11_module is None and settings.keys is None:
        log.warning("the master keys lie beside the documents: set DMST_FHIR_KEYS to a folder elsewhere")
    return SealedBlobs(make_blobs(settings, Metrics()), keys, metrics, sealing=settings.encrypt_blobs)


def _warn(settings: Settings) -> None:
    """What an operator should know before he wonders."""
    if settings.seal == "required" and settings.seal_trust is None:
        log.warning("every lot will be refused: a seal is required and DMST_FHIR_SEAL_TRUST names no authority")
    if settings.postgres is None and os.geteuid() == 0:
        log.warning("as root the embedded PostgreSQL runs as user embedded_postgres, who may enter the data folder")


def read_audit_trust(settings: Settings) -> list[bytes] | None:
    """Whose time stamps of the trail are believed; None where the settings name nobody. Raises BadParameter."""
    if settings.audit_tsa_trust is None:
        return None
    try:
        return [settings.audit_tsa_trust.read_bytes()]
    except OSError as error:
        raise BadParameter("DMST_FHIR_AUDIT_TSA_TRUST names no file that can be read") from error


def keep_trail(parts: Parts) -> Coroutine[Any, Any, None]:
    """What seals the trail and time-stamps its seals for ever, beside everybody's work. Raises BadParameter."""
    settings = parts.settings
    url, trust = secret(settings.audit_tsa), read_audit_trust(settings)
    if url and trust is None:
        raise BadParameter("DMST_FHIR_AUDIT_TSA needs DMST_FHIR_AUDIT_TSA_TRUST: whose time stamps are believed?")
    stamper = TimeStampingService(url, policy=settings.audit_tsa_policy) if url else None
    return _keep_trail(
        Anchoring(parts.seals, stamper, trust or (), timedelta(hours=settings.audit_anchor_hours)),
        settings.audit_seal_seconds,
    )


async def _keep_trail(anchoring: Anchoring, pause: float) -> None:
    try:
        await asyncio.gather(anchoring.seals.seal_forever(pause), anchoring.anchor_forever())
    finally:
        if anchoring.stamper:
            await anchoring.stamper.close()


def make_adapters(recipients: tuple[Recipient, ...], data: Path) -> Mapping[str, Adapter]:
    """An adapter for each recipient whose adapter this program has, by the recipient's name."""
    return {
        recipient.name: ADAPTERS[recipient.adapter](recipient.options, data)
        for recipient in recipients
        if recipient.adapter in ADAPTERS
    }


def make_dispatcher(parts: Parts, adapters: Mapping[str, Adapter]) -> Dispatcher:
    return Dispatcher(
        door=parts.door,
        archive=parts.archive,
        database=parts.database,
        jobs=parts.jobs,
        recipients={recipient.name: recipient for recipient in parts.recipients},
        adapters=adapters,
        settings=parts.settings,
        metrics=parts.metrics,
    )


def make_destroyer(parts: Parts) -> Destroyer:
    """What destroys the documents that lists approve."""
    return Destroyer(
        database=parts.database,
        door=parts.door,
        expunge=Expunge(parts.database),
        rows=RetentionRows(parts.database),
        periods=periods.load(parts.settings),
        base=parts.settings.public_base,
        approvals=parts.settings.retention_approvers,
    )


def make_due_documents(parts: Parts) -> DueDocuments:
    """What looks for documents that need not be kept any longer."""
    return DueDocuments(parts.database, parts.archive.accesses, periods.load(parts.settings))


def make_service(parts: Parts, page_links: PageLinks, forget: Callable[[str], None] = lambda _person: None) -> Service:
    """What the interactions of FHIR are given. `forget` is told of whom something was recorded."""
    expunge = Expunge(parts.database)
    return Service(
        parts.archive,
        parts.door,
        parts.blobs,
        parts.bulk,
        page_links,
        parts.settings,
        parts.uploads,
        expunge,
        parts.parameters,
        parts.shredder,
        parts.redactor,
        parts.transfers,
        parts.persons,
        Limits(parts.settings),
        parts.matcher,
        Failures(parts.archive.accesses, each=parts.settings.audit_failures_per_minute),
        forget,
    )


def make_standings(parts: Parts) -> Standings:
    """What looks where persons stand; in the charge of the service itself a worker is in everybody's team."""
    service = f"Organization/{service_id_of(parts.settings)}"
    return Standings(parts.persons, mode=parts.settings.out_of_team, everybodys=[service])


async def make_console(parts: Parts, authentication: Authentication, limits: Limits) -> Console:
    """The pages of persons, with the sessions of the login; their requests count with those that they make of FHIR."""
    issuer = urlsplit(parts.settings.login_issuer or "")
    return Console(
        parts.review,
        parts.review_pages,
        authentication.visit,
        References(await parts.clients.key("console")),
        timedelta(hours=parts.settings.review_hours),
        f"{issuer.scheme}://{issuer.netloc}",
        limits.request,
    )


class Application(FastAPI):
    """FastAPI for what is beside FHIR; FHIR goes past its middleware, which costs as much as reading a resource."""

    edge: Edge | None = None  # these two are there once the lifespan has begun
    exposition: Exposition | None = None

    def __init__(self, watch: Watch, **more: Any) -> None:
        super().__init__(
            title="dmst-fhir", docs_url=None, redoc_url=None, openapi_url=None, telemetry=NO_TELEMETRY, **more
        )
        self.watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif self.edge and FHIR.match(scope["path"]):
            await self.edge(scope, receive, send)
        else:
            await self.watch.around(super().__call__, scope, receive, send)


def create(settings: Settings | None = None) -> Application:
    """The ASGI application: FHIR at /fhir, tokens at /oauth2/token, health at /livez and /readyz, /metrics.

    It sets up the log of the process: whoever serves it, no line holds the value of a variable.
    """
    settings = settings or load()
    logs.configure(settings.log_level, settings.log_format)
    watch = Watch()

    @contextlib.asynccontextmanager
    async def lifespan(app: Application) -> AsyncGenerator[None]:
        try:
            async with serving(app):
                yield
        except Failure as failure:
            log.error("the server cannot start", reason=failure.diagnostics)
            raise

    @contextlib.asynccontextmanager
    async def serving(app: Application) -> AsyncGenerator[None]:
        async with build(settings, watch.metrics) as parts:
            certificates = Certificates.of(settings)
            outbound = outbound_of(settings)
            issuer = issuer_of(settings, outbound)
            sessions = Sessions(parts.transient, settings.session_idle_minutes * 60, settings.session_hours * 3600)
            login = login_of(settings, outbound, sessions, await parts.clients.key("login"))
            authentication = Authentication(
                parts.clients,
                issuer=issuer,
                sessions=sessions if login else None,
                certificates=certificates,
                standings=make_standings(parts),
            )
            page_links = PageLinks(await parts.clients.key("page-links"))
            service = make_service(parts, page_links, authentication.forget)
            sources = KeySources(outbound)
            assertions = Assertions(parts.clients, parts.transient, sources, settings.token_url)
            app.edge = Edge(service, authentication, watch=watch)
            app.exposition = Exposition(parts.metrics, parts.database)
            app.include_router(
                token_route(parts.clients, parts.transient, settings, assertions, certificates, service.failures)
            )
            if login:
                app.include_router(login_routes(login, Logins(parts.archive.accesses, service.failures)))
                app.include_router(console_routes(await make_console(parts, authentication, service.limits)))
            app.include_router(health_routes(parts.database, parts.transient, parts.blobs, watch))
            app.include_router(docs_routes(settings.public_base))
            app.include_router(metrics_route(app.exposition, authentication))
            async with (
                metrics_port(app.exposition, settings),
                _beside(index_forever(parts.database, parts.parameters)),
                _beside(keep_trail(parts)),
                _beside(service.failures.turn_forever()),
            ):
                yield

    app = Application(watch, lifespan=lifespan)
    app.add_exception_handler(Failure, _failure)
    return app


async def _failure(_request: Request, failure: Exception) -> Response:
    """A failure outside FHIR (tokens, health) looks like one inside."""
    assert isinstance(failure, Failure)
    answer = failure_answer(failure)
    assert isinstance(answer.body, bytes)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, answer.media_type.decode())
