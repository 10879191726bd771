"""The seal of a lot: made by us or by openssl, verified by us and by openssl."""

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.scans.seal import (
    DemoAuthority,
    PrivateKey,
    ProviderSeal,
    make_demo_authority,
    sign,
    timestamp,
    verify,
)

MANIFEST = b'{"format": "dmst-scan-lot/1", "lot": "LOT_20261015_C07_0123"}\n'
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=10)
DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the openssl command is absent")


@dataclass(frozen=True)
class Authority:
    """A certification authority of the tests."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @staticmethod
    def named(name: str) -> "Authority":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return Authority(_certificate(subject, key, subject, key, ca=True), key)

    def issue(self, name: str, key: PrivateKey, **how: object) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return _certificate(subject, key, self.certificate.subject, self.key, **how)  # pyright: ignore[reportArgumentType]

    def revoke(self, certificate: x509.Certificate, at: datetime) -> bytes:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(at).build()
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(at)
            .next_update(at + timedelta(days=365))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_revoked_certificate(entry)
            .sign(self.key, hashes.SHA256())
        )
        return crl.public_bytes(PEM)


def _certificate(
    subject: x509.Name,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: rsa.RSAPrivateKey,
    *,
    ca: bool = False,
    signs: bool = True,
    purposes: tuple[x509.ObjectIdentifier, ...] = (),
    critical: bool = True,
    until: datetime = datetime(2049, 1, 1, tzinfo=UTC),
) -> x509.Certificate:
    usage = x509.KeyUsage(signs and not ca, False, not signs, False, False, ca, ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


STAMPING = x509.ExtendedKeyUsageOID.TIME_STAMPING
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SEAL_CA = Authority.named("AC fictive des cachets")
TSA_CA = Authority.named("AC fictive des horodatages")
SIGNER = SEAL_CA.issue("Numérisation Fictive SA", RSA_KEY)
TSA = TSA_CA.issue("Horodatage Fictif", TSA_KEY, purposes=(STAMPING,))
TRUST = (SEAL_CA.certificate, TSA_CA.certificate)
SIGNATURE = sign(MANIFEST, SIGNER, RSA_KEY, at=NOON)
TOKEN = timestamp(MANIFEST, TSA, TSA_KEY, NOON)


def test_a_sealed_manifest_says_who_and_when() -> None:
    """A signature and a token by two separate authorities make a valid seal."""
    seal = verify(MANIFEST, SIGNATURE, TOKEN, TRUST, at=LATER)
    assert (seal.state, seal.problems) == ("valid", ())
    assert (seal.signer, seal.timestamp_authority) == ("Numérisation Fictive SA", "Horodatage Fictif")
    assert seal.signer_serial == f"{SIGNER.serial_number:X}"
    assert (seal.signed_at, seal.timestamp_at) == (NOON, NOON)


def test_the_key_may_be_on_an_elliptic_curve() -> None:
    """Organisation certificates come in both kinds."""
    certificate = SEAL_CA.issue("Courbe Fictive", EC_KEY)
    assert verify(MANIFEST, sign(MANIFEST, certificate, EC_KEY), None, TRUST, at=LATER).state == "valid"


def test_pem_is_accepted_for_the_trust_the_signature_and_the_token() -> None:
    """Providers and administrators keep files in either form."""
    from asn1crypto import pem

    trust = [b"".join(certificate.public_bytes(PEM) for certificate in TRUST)]
    seal = verify(MANIFEST, pem.armor("CMS", SIGNATURE), pem.armor("TIMESTAMP", TOKEN), trust, at=LATER)
    assert seal.state == "valid"


def test_verification_works_from_within_a_running_loop() -> None:
    """The intake is asynchronous."""

    async def within() -> str:
        return verify(MANIFEST, SIGNATURE, TOKEN, TRUST, at=LATER).state

    assert asyncio.run(within()) == "valid"


def test_nothing_delivered_is_an_absent_seal() -> None:
    """Whether a seal is required is for the caller to say."""
    assert verify(MANIFEST, None, None, TRUST, at=LATER).state == "absent"


def test_a_token_alone_proves_a_date_and_no_origin() -> None:
    """The seal is absent, and the date is told."""
    seal = verify(MANIFEST, None, TOKEN, TRUST, at=LATER)
    assert (seal.state, seal.timestamp_at, seal.signer) == ("absent", NOON, None)


@pytest.mark.parametrize("place", range(0, len(MANIFEST), 7))
def test_one_byte_changed_in_the_manifest_is_seen_by_both(place: int) -> None:
    """By the signature and by the time stamp, each alone."""
    changed = bytearray(MANIFEST)
    changed[place] ^= 1
    for signature, token in ((SIGNATURE, None), (None, TOKEN), (SIGNATURE, TOKEN)):
        assert verify(bytes(changed), signature, token, TRUST, at=LATER).state == "invalid"


@given(st.integers(0, len(SIGNATURE) + len(TOKEN) - 1), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_one_byte_changed_in_the_seal_never_changes_what_is_proven(place: int, flip: int) -> None:
    """Most are refused; a byte that no signature covers may change nothing else than be accepted as before."""
    both = bytearray(SIGNATURE + TOKEN)
    both[place] ^= flip
    seal = verify(MANIFEST, bytes(both[: len(SIGNATURE)]), bytes(both[len(SIGNATURE) :]), TRUST, at=LATER)
    if seal.state == "valid":
        assert seal == verify(MANIFEST, SIGNATURE, TOKEN, TRUST, at=LATER)


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(deadline=None)
def test_garbage_is_invalid_and_raises_nothing(signature: bytes, token: bytes) -> None:
    """The files come from outside."""
    seal = verify(MANIFEST, signature, token, TRUST, at=LATER)
    assert seal.state == "invalid"
    assert seal.problems


def test_a_signature_cut_anywhere_is_invalid() -> None:
    """A transfer may stop half way."""
    for end in range(0, len(SIGNATURE), 97):
        assert verify(MANIFEST, SIGNATURE[:end], None, TRUST, at=LATER).state == "invalid"


def test_an_authority_we_do_not_trust_is_told() -> None:
    """Each of the two needs its own authority, and an empty trust trusts nobody."""
    other = Authority.named("AC fictive des cachets")
    for trust in ((), (other.certificate, TSA_CA.certificate), (TSA_CA.certificate,)):
        seal = verify(MANIFEST, SIGNATURE, TOKEN, trust, at=LATER)
        assert (seal.state, seal.signer) == ("invalid", None)
    seal = verify(MANIFEST, SIGNATURE, TOKEN, (SEAL_CA.certificate,), at=LATER)
    assert seal.problems == ("the time stamp is not by a certificate that chains to a trusted authority",)
    assert seal.timestamp_at is None


def test_a_certificate_for_a_web_server_is_no_organisation_of_ours() -> None:
    """trustme's authority is as good as any other that we do not trust."""
    authority = trustme.CA()
    leaf = authority.issue_cert("scan.example.fr")
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    assert verify(MANIFEST, sign(MANIFEST, certificate, key), None, TRUST, at=LATER).state == "invalid"


def test_a_signer_since_expired_is_valid_by_its_token_only() -> None:
    """The token proves that the lot existed while the certificate held."""
    expired = SEAL_CA.issue("Expirée Fictive", RSA_KEY, until=NOON + timedelta(days=1))
    signature = sign(MANIFEST, expired, RSA_KEY, at=NOON)
    assert verify(MANIFEST, signature, TOKEN, TRUST, at=LATER).state == "valid"
    seal = verify(MANIFEST, signature, None, TRUST, at=LATER)
    assert seal.problems == ("the signature is by a certificate that was not valid at that time",)
    late = timestamp(MANIFEST, TSA, TSA_KEY, NOON + timedelta(days=2))
    assert verify(MANIFEST, signature, late, TRUST, at=LATER).state == "invalid"


def test_a_pinned_certificate_accepts_itself_and_issues_nothing() -> None:
    """One provider's certificate in the trust is no authority over others, and still expires."""
    assert verify(MANIFEST, SIGNATURE, None, (SIGNER,), at=LATER).state == "valid"
    pinned = Authority(SIGNER, RSA_KEY)
    child = pinned.issue("Enfant Fictif", EC_KEY)
    forged = sign(MANIFEST, child, EC_KEY, chain=[SIGNER])
    assert verify(MANIFEST, forged, None, (SIGNER,), at=LATER).state == "invalid"
    assert verify(MANIFEST, SIGNATURE, None, (SIGNER,), at=datetime(2050, 1, 1, tzinfo=UTC)).state == "invalid"
    blunt = SEAL_CA.issue("Chiffrement Fictif", EC_KEY, signs=False)
    assert verify(MANIFEST, sign(MANIFEST, blunt, EC_KEY), None, (blunt,), at=LATER).state == "invalid"


def test_an_intermediate_authority_may_come_with_the_signature() -> None:
    """Only the root has to be trusted."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    middle = Authority(SEAL_CA.issue("AC intermédiaire fictive", key, ca=True), key)
    leaf = middle.issue("Filiale Fictive", EC_KEY)
    signature = sign(MANIFEST, leaf, EC_KEY, chain=[middle.certificate])
    assert verify(MANIFEST, signature, None, TRUST, at=LATER).signer == "Filiale Fictive"
    assert verify(MANIFEST, sign(MANIFEST, leaf, EC_KEY), None, TRUST, at=LATER).state == "invalid"


def test_a_certificate_that_may_not_sign_is_refused() -> None:
    """Key usage: digital signature or content commitment (RFC 5280 section 4.2.1.3)."""
    blunt = SEAL_CA.issue("Chiffrement Fictif", RSA_KEY, signs=False)
    seal = verify(MANIFEST, sign(MANIFEST, blunt, RSA_KEY), None, TRUST, at=LATER)
    assert seal.problems == ("the signature has a certificate that may not be used for this",)


@pytest.mark.parametrize(
    ("purposes", "critical"),
    [
        ((), True),
        ((x509.ExtendedKeyUsageOID.CODE_SIGNING,), True),
        ((STAMPING, x509.ExtendedKeyUsageOID.CODE_SIGNING), True),
        ((STAMPING,), False),
    ],
)
def test_a_time_stamp_by_a_certificate_not_reserved_for_it_is_refused(
    purposes: tuple[x509.ObjectIdentifier, ...], critical: bool
) -> None:
    """RFC 3161 section 2.3: timeStamping alone, and critical."""
    tsa = TSA_CA.issue("Faux Horodatage", TSA_KEY, purposes=purposes, critical=critical)
    seal = verify(MANIFEST, SIGNATURE, timestamp(MANIFEST, tsa, TSA_KEY, NOON), TRUST, at=LATER)
    assert (seal.state, seal.timestamp_at) == ("invalid", None)


def test_a_time_stamp_of_tomorrow_is_refused() -> None:
    """A clock may be some minutes ahead, not a day."""
    token = timestamp(MANIFEST, TSA, TSA_KEY, LATER + timedelta(days=1))
    assert verify(MANIFEST, SIGNATURE, token, TRUST, at=LATER).problems == ("the time stamp is in the future",)


def test_a_revoked_certificate_is_refused_where_the_trust_holds_the_list() -> None:
    """Revoked before the token: invalid. Revoked after: the lot stays proven."""
    before = [certificate.public_bytes(PEM) for certificate in TRUST]
    early = [*before, SEAL_CA.revoke(SIGNER, NOON - timedelta(days=1))]
    late = [*before, SEAL_CA.revoke(SIGNER, NOON + timedelta(days=1))]
    assert verify(MANIFEST, SIGNATURE, TOKEN, early, at=LATER).problems == (
        "the signature is by a certificate that was revoked",
    )
    assert verify(MANIFEST, SIGNATURE, TOKEN, late, at=LATER).state == "valid"
    assert verify(MANIFEST, SIGNATURE, None, late, at=LATER).state == "invalid"


def test_a_trust_that_cannot_be_read_is_our_fault_and_raises() -> None:
    """An administrator must see it, not a provider."""
    for bad in (b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ValueError):
            _ = verify(MANIFEST, SIGNATURE, TOKEN, [bad], at=LATER)


def test_a_provider_may_sign_without_a_time_stamp() -> None:
    """Its own time-stamping service adds the token afterwards."""
    signature, token = ProviderSeal(SIGNER, RSA_KEY).seal(MANIFEST, NOON)
    assert token is None
    assert verify(MANIFEST, signature, None, TRUST, at=LATER).signed_at == NOON


def test_the_demonstration_authority_is_made_once_and_keeps_its_keys_private(tmp_path: Path) -> None:
    """The second call reads what the first wrote; keys are 0600."""
    first = make_demo_authority(tmp_path / "demo")
    second = make_demo_authority(tmp_path / "demo")
    assert first.certificate == second.certificate
    for key in (tmp_path / "demo").glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signature, token = first.seal(MANIFEST, NOON)
    assert verify(MANIFEST, signature, token, second.trust, at=LATER).state == "valid"
    assert isinstance(first, DemoAuthority)
    assert os.listdir(tmp_path) == ["demo"]


def _openssl(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    assert OPENSSL
    return subprocess.run([OPENSSL, *command.split()], cwd=folder, capture_output=True, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the manifest, the keys and the certificates, as a provider has them."""
    (tmp_path / "manifest.json").write_bytes(MANIFEST)
    for name, certificate in (("ca", TRUST[0]), ("tsa-ca", TRUST[1]), ("seal", SIGNER), ("tsa", TSA)):
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(PEM))
    for name, key in (("seal", RSA_KEY), ("tsa", TSA_KEY)):
        (tmp_path / f"{name}.key").write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return tmp_path


@needs_openssl
def test_openssl_verifies_what_we_sign_and_stamp(files: Path) -> None:
    """The recipe of docs/scan_lot.md to check a lot by hand."""
    (files / "manifest.json.p7s").write_bytes(SIGNATURE)
    (files / "manifest.json.tsr").write_bytes(TOKEN)
    moment = int(NOON.timestamp())
    signed = _openssl(
        files,
        "cms -verify -binary -inform DER -in manifest.json.p7s -content manifest.json -CAfile ca.pem "
        f"-purpose any -attime {moment} -out {os.devnull}",
    )
    assert signed.returncode == 0, signed.stderr
    stamped = _openssl(
        files,
        f"ts -verify -data manifest.json -in manifest.json.tsr -CAfile tsa-ca.pem -attime {moment}",
    )
    assert stamped.returncode == 0, stamped.stderr


@needs_openssl
def test_we_verify_what_openssl_signs_and_stamps(files: Path) -> None:
    """The recipe of docs/scan_lot.md for a provider without our tools."""
    signed = _openssl(
        files,
        "cms -sign -binary -in manifest.json -signer seal.pem -inkey seal.key -md sha256 -cades "
        "-outform DER -out manifest.json.p7s",
    )
    assert signed.returncode == 0, signed.stderr
    asked = _openssl(files, "ts -query -data manifest.json -sha256 -cert -out manifest.json.tsq")
    assert asked.returncode == 0, asked.stderr
    (files / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa = t\n[t]\nserial = serial\nsigner_cert = tsa.pem\nsigner_key = tsa.key\n"
        "signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
    )
    (files / "serial").write_text("01\n")
    answered = _openssl(
        files, "ts -reply -config tsa.cnf -section t -queryfile manifest.json.tsq -out manifest.json.tsr"
    )
    assert answered.returncode == 0, answered.stderr
    signature, token = (files / "manifest.json.p7s").read_bytes(), (files / "manifest.json.tsr").read_bytes()
    seal = verify(MANIFEST, signature, token, TRUST)
    assert (seal.state, seal.problems) == ("valid", ())
    assert seal.timestamp_at is not None
    assert verify(MANIFEST + b" ", signature, token, TRUST).state == "invalid"


@needs_openssl
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-nodetach", "the signature embeds the content: it must be detached"),
        ("-nocerts", "the signature does not contain the certificate of its signer"),
        ("-md sha1", "the signature uses an algorithm or a key that is too weak"),
    ],
)
def test_the_usual_mistakes_with_openssl_are_named(files: Path, options: str, reason: str) -> None:
    """A provider reads the reason in the acknowledgement."""
    command = "cms -sign -binary -in manifest.json -signer seal.pem -inkey seal.key -outform DER -out x.p7s"
    made = _openssl(files, f"{command} {options}")
    assert made.returncode == 0, made.stderr
    assert verify(MANIFEST, (files / "x.p7s").read_bytes(), None, TRUST, at=LATER).problems == (reason,)


def test_a_refused_request_is_no_time_stamp() -> None:
    """A TimeStampResp with status rejection holds no token (RFC 3161 section 2.4.2)."""
    rejection = b"\x30\x05\x30\x03\x02\x01\x02"
    assert verify(MANIFEST, SIGNATURE, rejection, TRUST, at=LATER).problems == (
        "the time stamp was refused by its authority",
    )


def test_a_bare_token_is_accepted_as_well_as_the_response() -> None:
    """Some services deliver the TimeStampToken without its envelope."""
    from asn1crypto import tsp

    bare: Callable[[], bytes] = tsp.TimeStampResp.load(TOKEN)["time_stamp_token"].dump
    assert verify(MANIFEST, SIGNATURE, bare(), TRUST, at=LATER).state == "valid"
