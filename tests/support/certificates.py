"""A test certificate authority, and TLS contexts with its certificates: valid, expired, or for other names."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class CertificateAuthority:
    """Built by `CertificateAuthority.create(folder)`; `path` is what a client must trust."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path) -> CertificateAuthority:
        """Create an authority that is valid for a day."""
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("An authority of tests")
        builder = _builder(name, name, key, -1, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        found = cls(folder, key, builder.sign(key, SHA256()))
        found.path.write_bytes(found.certificate.public_bytes(Encoding.PEM))
        return found

    @property
    def path(self) -> Path:
        """The certificate in PEM."""
        return self.folder / "authority.pem"

    def server_context(
        self, *names: str, address: str = "127.0.0.1", begins: float = -1, ends: float = 1
    ) -> ssl.SSLContext:
        """Build a server context for these names and this address ("": none), valid from and to so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        known: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
        if address:
            known.append(x509.IPAddress(ipaddress.ip_address(address)))
        builder = _builder(_name("a server"), self.certificate.subject, key, begins, ends)
        builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        path = self.folder / f"server-{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
    )
