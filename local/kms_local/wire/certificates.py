"""A private certificate authority that lives as long as one run, and the server certificates it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = dt.timedelta(days=30)
_LEAST_VALID = dt.timedelta(days=1)
_SKEW = dt.timedelta(days=2)
"""AWS's certificates were issued long ago: a client whose clock is a day behind finds them valid, as there."""


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A self-signed authority; EC keys, because an RSA key takes longer to make than everything else at start."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    made_at: dt.datetime

    @property
    def pem(self) -> bytes:
        """The certificate a client must trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def secret_pem(self) -> bytes:
        """Key and certificate: what `read_authority` makes the same authority of."""
        return _key_pem(self.key) + self.pem


def read_authority(secret_pem: bytes, *, now: float) -> CertificateAuthority | None:
    """Return the authority that `secret_pem` keeps; None if what it signs would end within a day of POSIX time `now`.

    Raises:
        ValueError: it is not what `CertificateAuthority.secret_pem` gave.
    """
    key = serialization.load_pem_private_key(secret_pem, None)
    certificate = x509.load_pem_x509_certificate(secret_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind")  # noqa: TRY004  of another kind than we write
    if certificate.not_valid_after_utc.timestamp() < now + _LEAST_VALID.total_seconds():
        return None
    return CertificateAuthority(key, certificate, certificate.not_valid_before_utc + _SKEW)


def make_authority(*, now: float) -> CertificateAuthority:
    """Make an authority that is valid for 30 days from POSIX time `now`."""
    made_at = dt.datetime.fromtimestamp(now, tz=dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("kms-local private CA")
    certificate = (
        _builder(name, name, key.public_key(), made_at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(key, certificate, made_at)


def server_pem(authority: CertificateAuthority, names: Iterable[str]) -> bytes:
    """Return a new key and a certificate that is good for `names`, host names or IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _server_certificate(authority, key, list(names))
    return _key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _server_certificate(
    authority: CertificateAuthority, key: ec.EllipticCurvePrivateKey, names: list[str]
) -> x509.Certificate:
    issuer = authority.certificate
    return (
        _builder(_name(names[0]), issuer.subject, key.public_key(), authority.made_at)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, made_at: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(made_at - _SKEW)
        .not_valid_after(made_at + _VALID)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
