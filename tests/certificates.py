"""Certificates signed by themselves, made by openssl(1), and contexts that use them."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

MADE_WITHIN_S = 60


@dataclass
class Certificate:
    key: Path
    certificate: Path

    def server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client(self):
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.options |= ssl.OP_NO_RENEGOTIATION      # else the kernel would not have a TLS 1.2 client's records
        return context


def make(folder, name="localhost"):
    """A new key in folder, and a certificate for a host name."""
    made = Certificate(folder / f"{name}.key", folder / f"{name}.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1",
         "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True, capture_output=True, timeout=MADE_WITHIN_S)
    return made
