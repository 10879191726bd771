"""The seal of a scan lot: a CMS signature and an RFC 3161 time stamp on the bytes of manifest.json.

RFC 5652 (CMS), ETSI EN 319 122-1 (CAdES), RFC 3161 (time stamps), RFC 5280 section 6 (certification paths);
eIDAS articles 35 and 41 give a qualified seal and a qualified time stamp their presumption of integrity.
docs/scan_lot.md has the recipe of a provider. Heavy libraries are imported where they are used: one second of start.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from pyhanko.sign.ades.report import AdESSubIndic
    from pyhanko.sign.validation.settings import KeyUsageConstraints
    from pyhanko.sign.validation.status import SignatureStatus
    from pyhanko_certvalidator import ValidationContext

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Trust = Sequence[x509.Certificate | bytes]
Asn1 = Any
"""A structure of asn1crypto: untyped, and read lazily."""
T = TypeVar("T")

CLOCKS_APART = timedelta(minutes=5)
"""How far ahead of ours the clock of a time-stamping authority may be."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What the seal of a lot proves.

    `valid`: signed by a trusted organisation, time-stamped by a trusted authority where there is a token.
    `absent`: no signature was delivered (a valid token alone proves a date, not an origin). `invalid`: a signature
    or a token was delivered and does not hold; `problems` says why, in sentences without content of the lot.
    `signer` is the common name of the organisation certificate and `signer_serial` its serial number in hexadecimal:
    None unless the signature holds. `signed_at` is the signer's own claim, `timestamp_at` is proven.
    """

    state: Literal["valid", "absent", "invalid"]
    signer: str | None = None
    signer_serial: str | None = None
    signed_at: datetime | None = None
    timestamp_at: datetime | None = None
    timestamp_authority: str | None = None
    problems: tuple[str, ...] = ()


class Signer(Protocol):
    """Who seals a lot: gives the detached signature (DER), and a time-stamp token (DER) where it can."""

    def seal(self, manifest: bytes, at: datetime) -> tuple[bytes, bytes | None]: ...


@dataclass(frozen=True, slots=True)
class ProviderSeal:
    """A provider's own organisation certificate and key; the token comes from its time-stamping service."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def seal(self, manifest: bytes, at: datetime) -> tuple[bytes, None]:
        """Sign; there is no token, because no authority is at hand."""
        return sign(manifest, self.certificate, self.key, chain=self.chain, at=at), None


@dataclass(frozen=True, slots=True)
class DemoAuthority:
    """Fictitious certificates to seal lots in demonstrations and tests; worth nothing elsewhere."""

    roots: tuple[x509.Certificate, x509.Certificate]
    certificate: x509.Certificate
    key: PrivateKey
    tsa_certificate: x509.Certificate
    tsa_key: rsa.RSAPrivateKey

    @property
    def trust(self) -> tuple[x509.Certificate, ...]:
        """What `verify` must be given to accept the seals of this authority."""
        return self.roots

    def seal(self, manifest: bytes, at: datetime) -> tuple[bytes, bytes]:
        """Sign and time-stamp at the moment given."""
        return (
            sign(manifest, self.certificate, self.key, at=at),
            timestamp(manifest, self.tsa_certificate, self.tsa_key, at),
        )


def verify(
    manifest: bytes, signature: bytes | None, token: bytes | None, trust: Trust, *, at: datetime | None = None
) -> Seal:
    """Check the seal of the exact bytes of manifest.json.

    `signature` is a detached CMS SignedData and `token` a TimeStampResp or its TimeStampToken (DER or PEM each), None
    where not delivered. `trust` holds X.509 certificates, or PEM or DER bytes: a CA certificate is a root; any other
    certificate is pinned and accepts itself only. PEM may also hold certificate revocation lists, which are applied;
    nothing is ever fetched. `at` is the present (aware), by default the clock: the authority of the token must be
    valid then; the signer must be valid at the time of the token, or at `at` where there is no token.

    Never raises for what was delivered, whatever the bytes: the answer is `invalid`. Raises ValueError where `trust`
    cannot be read or `at` is naive, which are faults of our configuration.
    """
    now = at or datetime.now(UTC)
    if now.tzinfo is None:
        raise ValueError("the present must have an offset")
    anchors = _anchors(trust)
    if signature is None and token is None:
        return Seal("absent")
    stamp = None
    if token is not None:
        stamp = _guarded(
            lambda: _check_token(lambda name: hashlib.new(name, manifest).digest(), token, anchors, now), "time stamp"
        )
    proven = stamp.moment if stamp and not stamp.problems else None
    signed = None
    if signature is not None:
        signed = _guarded(lambda: _check_signature(manifest, signature, anchors, proven or now), "signature")
    problems = (signed.problems if signed else ()) + (stamp.problems if stamp else ())
    holds = signed is not None and not signed.problems
    return Seal(
        state="invalid" if problems else "valid" if signed else "absent",
        signer=signed.name if signed and holds else None,
        signer_serial=signed.serial if signed and holds else None,
        signed_at=signed.moment if signed and holds else None,
        timestamp_at=proven,
        timestamp_authority=stamp.name if stamp and proven else None,
        problems=problems,
    )


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a time-stamp token proves; nothing where there are problems."""

    moment: datetime | None
    authority: str | None
    problems: tuple[str, ...]


def verify_stamp(sha256: bytes, token: bytes, trust: Trust, what: str) -> Stamp:
    """Check a token (RFC 3161) on a SHA-256 digest of `what`, with certificates that were valid when it was made.

    So tokens are proven when the certificate of their authority has expired; those that come later cover them. Never
    raises for the token; raises ValueError where `trust` cannot be read.
    """
    anchors = _anchors(trust)
    checked = _guarded(
        lambda: _check_token(lambda name: sha256 if name == "sha256" else b"", token, anchors, None, what),
        "time stamp",
    )
    return Stamp(checked.moment, checked.name, checked.problems)


def sign(
    manifest: bytes | IO[bytes],
    certificate: x509.Certificate,
    key: PrivateKey,
    *,
    chain: Iterable[x509.Certificate] = (),
    at: datetime | None = None,
) -> bytes:
    """A detached CMS signature (CAdES baseline B, SHA-256, DER) of these bytes, with the certificates embedded.

    A file is read from where it stands, a little at a time.

    `at` is the signing time claimed (aware), by default the clock.
    """
    from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes, SimpleSigner
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    signer = SimpleSigner(
        signing_cert=_asn1(certificate),
        signing_key=_asn1_key(key),
        cert_registry=SimpleCertificateStore.from_certs([_asn1(extra) for extra in chain]),
    )
    signed = _settled(
        signer.async_sign_general_data(
            manifest,
            "sha256",
            use_cades=True,
            signed_attr_settings=PdfCMSSignedAttributes(
                signing_time=(at or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
            ),
        )
    )
    return signed.dump()


def timestamp(manifest: bytes, tsa_certificate: x509.Certificate, tsa_key: rsa.RSAPrivateKey, at: datetime) -> bytes:
    """A TimeStampResp (DER) on the SHA-256 of these bytes by a local authority: for demonstrations and tests."""
    from pyhanko.sign.timestamps import DummyTimeStamper

    authority = DummyTimeStamper(
        _asn1(tsa_certificate),
        _asn1_key(tsa_key),
        fixed_dt=at.astimezone(UTC).replace(microsecond=0),
        include_nonce=False,
    )
    _nonce, request = authority.request_cms(hashlib.sha256(manifest).digest(), "sha256")
    return authority.request_tsa_response(request).dump()


def make_demo_authority(folder: Path) -> DemoAuthority:
    """The demonstration authority kept in this folder, made at the first call.

    The folder holds the two certificates and keys in use (0600) and the two roots; the keys of the roots are
    thrown away. Safe to call from several processes at once.
    """
    if not (folder / "seal.key").exists():
        _write_demo_authority(folder)
    return DemoAuthority(
        roots=(_read_certificate(folder / "ca.pem"), _read_certificate(folder / "tsa-ca.pem")),
        certificate=_read_certificate(folder / "seal.pem"),
        key=_read_key(folder / "seal.key"),
        tsa_certificate=_read_certificate(folder / "tsa.pem"),
        tsa_key=_read_key(folder / "tsa.key"),
    )


@dataclass(frozen=True, slots=True)
class _Checked:
    """What one signature turned out to be; trusted when there are no problems."""

    name: str | None = None
    serial: str | None = None
    moment: datetime | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Anchors:
    roots: tuple[Asn1, ...]
    pinned: tuple[Asn1, ...]
    revoked: dict[tuple[bytes, int], datetime]
    """When each certificate (DER of its issuer, serial number) of our revocation lists was revoked."""


WHY = {
    "NO_SIGNING_CERTIFICATE_FOUND": "does not contain the certificate of its signer",
    "NO_CERTIFICATE_CHAIN_FOUND": "is not by a certificate that chains to a trusted authority",
    "CERTIFICATE_CHAIN_GENERAL_FAILURE": "has a certificate chain that does not hold",
    "CHAIN_CONSTRAINTS_FAILURE": "has a certificate that may not be used for this",
    "CRYPTO_CONSTRAINTS_FAILURE": "uses an algorithm or a key that is too weak",
    "CRYPTO_CONSTRAINTS_FAILURE_NO_POE": "uses an algorithm or a key that is too weak",
    "EXPIRED": "is by a certificate that was not valid at that time",
    "NOT_YET_VALID": "is by a certificate that was not valid at that time",
    "OUT_OF_BOUNDS_NO_POE": "is by a certificate that was not valid at that time",
    "OUT_OF_BOUNDS_NOT_REVOKED": "is by a certificate that was not valid at that time",
    "REVOKED": "is by a certificate that was revoked",
    "REVOKED_NO_POE": "is by a certificate that was revoked",
    "REVOKED_CA_NO_POE": "is by a certificate whose authority was revoked",
    "FORMAT_FAILURE": "has not the structure of a detached CMS signature",
}
"""The indications of ETSI EN 319 102-1 that the validation can give, as ends of a sentence."""


def _guarded(check: Callable[[], _Checked], what: str) -> _Checked:
    from pyhanko.sign.validation.errors import SignatureValidationError

    try:
        return check()
    except _Refusal as refusal:
        return _Checked(problems=(f"the {what} {refusal}",))
    except SignatureValidationError as failure:
        indication = failure.ades_subindication
        return _Checked(problems=(f"the {what} {_why(indication)}",))
    except Exception:
        # The ASN.1 parser is lazy: garbage surfaces anywhere, as any exception. To refuse is always safe here.
        return _Checked(problems=(f"the {what} cannot be read",))


class _Refusal(Exception):
    """The end of a sentence that begins with `the signature` or `the time stamp`."""


def _why(indication: "AdESSubIndic | None") -> str:
    return WHY.get(indication.standard_name if indication else "", "does not hold")


def _check_signature(manifest: bytes, signature: bytes, anchors: _Anchors, moment: datetime) -> _Checked:
    from pyhanko.sign.validation.generic_cms import async_validate_cms_signature, extract_self_reported_ts
    from pyhanko.sign.validation.settings import KeyUsageConstraints
    from pyhanko.sign.validation.status import SignatureStatus

    signed_data = _signed_data(_content_info(_der(signature)), "data")
    if signed_data["encap_content_info"]["content"].native is not None:
        raise _Refusal("embeds the content: it must be detached")
    usage = KeyUsageConstraints(key_usage={"digital_signature", "non_repudiation"})
    (signer_info,) = signed_data["signer_infos"]
    algorithm = signer_info["digest_algorithm"]["algorithm"].native
    status = _settled(
        async_validate_cms_signature(
            signed_data,
            status_cls=SignatureStatus,
            raw_digest=hashlib.new(algorithm, manifest).digest(),
            validation_context=_context(anchors, signed_data, moment),
            key_usage_settings=usage,
        )
    )
    problems = _status_problems(status, "signature", "the manifest was changed after it was signed")
    if not problems:
        problems = _certificate_problems(status, moment, usage, anchors, "signature")
    return _Checked(
        name=_organisation(status.signing_cert),
        serial=f"{status.signing_cert.serial_number:X}",
        moment=extract_self_reported_ts(signer_info),
        problems=problems,
    )


def _check_token(
    digest_by: Callable[[str], bytes],
    token: bytes,
    anchors: _Anchors,
    now: datetime | None,
    what: str = "this manifest",
) -> _Checked:
    """Whether a token holds for the digest of `what` that an algorithm gives; `now` None asks at its own moment."""
    from pyhanko.sign.validation.generic_cms import validate_tst_signed_data
    from pyhanko.sign.validation.settings import KeyUsageConstraints
    from pyhanko.sign.validation.status import TimestampSignatureStatus

    signed_data = _signed_data(_time_stamp_token(_der(token)), "tst_info")
    info: Asn1 = signed_data["encap_content_info"]["content"].parsed
    clock = now or datetime.now(UTC)
    moment: datetime = now or info["gen_time"].native
    status = TimestampSignatureStatus(
        **_settled(validate_tst_signed_data(signed_data, _context(anchors, signed_data, moment), digest_by))
    )
    imprint = info["message_imprint"]["hash_algorithm"]["algorithm"].native
    problems = _status_problems(status, "time stamp", f"the time stamp is not on {what}")
    if imprint not in {"sha256", "sha384", "sha512"}:
        problems = (*problems, "the time stamp uses an algorithm or a key that is too weak")
    if not problems:
        usage = KeyUsageConstraints(extd_key_usage={"time_stamping"})
        problems = _certificate_problems(status, moment, usage, anchors, "time stamp")
        problems = (*problems, *_authority_problems(status.signing_cert))
    if status.timestamp > clock + CLOCKS_APART:
        problems = (*problems, "the time stamp is in the future")
    return _Checked(
        name=_organisation(status.signing_cert),
        serial=f"{status.signing_cert.serial_number:X}",
        moment=status.timestamp,
        problems=problems,
    )


def _status_problems(status: "SignatureStatus", what: str, altered: str) -> tuple[str, ...]:
    if not status.valid:
        return (f"the {what} is not by the key of its certificate, or was altered",)
    if not status.intact:
        return (altered,)
    if status.trust_problem_indic is not None:
        return (f"the {what} {_why(status.trust_problem_indic)}",)
    return ()


def _certificate_problems(
    status: "SignatureStatus", moment: datetime, usage: "KeyUsageConstraints", anchors: _Anchors, what: str
) -> tuple[str, ...]:
    """What the validation of the path leaves to us.

    A pinned certificate is its own trust anchor, of which RFC 5280 section 6 asks nothing; and the library applies a
    revocation list only to certificates that say where theirs is published.
    """
    from pyhanko_certvalidator.errors import InvalidCertificateError

    certificate: Asn1 = status.signing_cert
    if not certificate.not_valid_before <= moment <= certificate.not_valid_after:
        return (f"the {what} {WHY['EXPIRED']}",)
    path = status.validation_path
    for link in (certificate, *(path.iter_certs(include_root=False) if path else ())):
        revoked_at = anchors.revoked.get((link.issuer.dump(), link.serial_number))
        if revoked_at is not None and revoked_at <= moment:
            return (f"the {what} {WHY['REVOKED']}",)
    try:
        usage.validate(certificate)
    except InvalidCertificateError:
        return (f"the {what} {WHY['CHAIN_CONSTRAINTS_FAILURE']}",)
    return ()


def _authority_problems(certificate: Asn1) -> tuple[str, ...]:
    # RFC 3161 section 2.3: reserved for time stamps by an extended key usage that is critical and holds only that.
    if (
        certificate.extended_key_usage_value.native != ["time_stamping"]
        or "extended_key_usage" not in certificate.critical_extensions
    ):
        return ("the time stamp is by a certificate that is not reserved for time stamping",)
    return ()


def _der(raw: bytes) -> bytes:
    from asn1crypto import pem

    block: Asn1 = pem.unarmor(raw) if pem.detect(raw) else (None, None, raw)
    return block[2]


def _content_info(raw: bytes) -> Asn1:
    from asn1crypto import cms

    return cms.ContentInfo.load(raw, strict=True)


def _time_stamp_token(raw: bytes) -> Asn1:
    """The token of a TimeStampResp that grants it, or the token itself (RFC 3161 section 2.4.2)."""
    from asn1crypto import core, tsp

    outer: Asn1 = core.Sequence.load(raw, strict=True)
    if isinstance(outer[0], core.ObjectIdentifier):
        return _content_info(raw)
    # A refusal holds no token, and the library would not read it as a TimeStampResp.
    status: Asn1 = tsp.PKIStatusInfo.load(outer[0].dump())
    if status["status"].native not in {"granted", "granted_with_mods"}:
        raise _Refusal("was refused by its authority")
    answer: Asn1 = tsp.TimeStampResp.load(raw, strict=True)
    return answer["time_stamp_token"]


def _signed_data(content_info: Asn1, content_type: str) -> Asn1:
    if content_info["content_type"].native != "signed_data":
        raise _Refusal("is no CMS SignedData")
    signed_data = content_info["content"]
    if signed_data["encap_content_info"]["content_type"].native != content_type:
        raise _Refusal("signs another type of content")
    if len(signed_data["signer_infos"]) != 1:
        raise _Refusal("must have exactly one signer")
    return signed_data


def _anchors(trust: Trust) -> _Anchors:
    """Sort what we trust; raises ValueError where it cannot be read."""
    certificates: list[x509.Certificate] = []
    revoked: dict[tuple[bytes, int], datetime] = {}
    for entry in trust:
        if isinstance(entry, x509.Certificate):
            certificates.append(entry)
            continue
        for kind, der in _blocks(entry):
            if kind == "X509 CRL":
                crl = x509.load_der_x509_crl(der)
                issuer = crl.issuer.public_bytes()
                revoked |= {(issuer, line.serial_number): line.revocation_date_utc for line in crl}
            else:
                certificates.append(x509.load_der_x509_certificate(der))
    roots = [certificate for certificate in certificates if _is_authority(certificate)]
    pinned = [certificate for certificate in certificates if not _is_authority(certificate)]
    return _Anchors(tuple(map(_asn1, roots)), tuple(map(_asn1, pinned)), revoked)


def _blocks(raw: bytes) -> Iterable[tuple[str, bytes]]:
    from asn1crypto import pem

    if not pem.detect(raw):
        return (("CERTIFICATE", raw),)
    unarmored: Asn1 = pem.unarmor(raw, multiple=True)
    blocks: list[tuple[str, bytes]] = [(kind, der) for kind, _headers, der in unarmored]
    unknown = {kind for kind, _der in blocks} - {"CERTIFICATE", "X509 CRL"}
    if unknown:
        raise ValueError("the trust list may hold certificates and revocation lists only")
    return blocks


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _context(anchors: _Anchors, signed_data: Asn1, moment: datetime) -> "ValidationContext":
    from pyhanko.sign.validation.generic_cms import extract_certs_for_validation
    from pyhanko_certvalidator import ValidationContext

    signer = extract_certs_for_validation(signed_data).signer_cert
    # Only the signer itself may be pinned: as an anchor it could otherwise issue certificates.
    pinned = [certificate for certificate in anchors.pinned if certificate.sha256 == signer.sha256]
    return ValidationContext(
        trust_roots=[*anchors.roots, *pinned],
        moment=moment,
        allow_fetching=False,
    )


def _organisation(certificate: Asn1) -> str:
    subject = certificate.subject.native
    name = subject.get("common_name") or subject.get("organization_name")
    return name if isinstance(name, str) else certificate.subject.human_friendly


def _settled(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of pyhanko: pure computation here, for nothing is fetched.

    In a thread of its own, because no second loop can run in the thread of a caller that is itself in one.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _asn1(certificate: x509.Certificate) -> Asn1:
    from asn1crypto import x509 as asn1_x509

    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))


def _asn1_key(key: PrivateKey) -> Asn1:
    from asn1crypto import keys as asn1_keys

    return asn1_keys.PrivateKeyInfo.load(
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _write_demo_authority(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        made.mkdir(mode=0o700)
        for name, root, usage in (
            ("seal", "ca", _SEAL_USAGE),
            ("tsa", "tsa-ca", _TSA_USAGE),
        ):
            root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            root_name = _subject(f"Autorité fictive {'de cachet' if name == 'seal' else 'horodatage'}")
            subject = _subject("Numérisation Fictive SA" if name == "seal" else "Horodatage Fictif")
            root_certificate = _issue(root_name, root_key.public_key(), root_name, root_key, _ROOT_USAGE)
            certificate = _issue(subject, key.public_key(), root_name, root_key, usage)
            (made / f"{root}.pem").write_bytes(root_certificate.public_bytes(serialization.Encoding.PEM))
            (made / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            _write_key(made / f"{name}.key", key)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / "seal.key").exists():  # else another process was faster: its work is as good
                raise


_ROOT_USAGE: tuple[tuple[x509.ExtensionType, bool], ...] = ((x509.BasicConstraints(ca=True, path_length=0), True),)
_SEAL_USAGE: tuple[tuple[x509.ExtensionType, bool], ...] = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (
        x509.KeyUsage(
            digital_signature=True,
            content_commitment=True,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        ),
        True,
    ),
)
_TSA_USAGE: tuple[tuple[x509.ExtensionType, bool], ...] = (
    *_SEAL_USAGE,
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
)


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Fictif - sans valeur"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
        ]
    )


def _issue(
    subject: x509.Name,
    public_key: rsa.RSAPublicKey,
    issuer: x509.Name,
    issuer_key: rsa.RSAPrivateKey,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Demonstration lots carry dates of their own story, so the certificates must cover them all.
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2049, 12, 31, tzinfo=UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _write_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _ = file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _read_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _read_key(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path.name} does not hold an RSA key")
    return key
