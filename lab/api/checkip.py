# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in for https://checkip.amazonaws.com, which answers with the address of the caller."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

from lab.common.environment import CHECKIP

_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def start(directory: Path, address: str) -> None:
    """Serve HTTPS and HTTP on ports 443 and 80 of ``address``, in threads of this process.

    A process of this machine that connects there has the same address as its own, so that is what it is told.
    Writes ``ca-bundle.pem`` to ``directory``: the system's certificate authorities and the one that is made here.
    """
    authority = trustme.CA()
    paths = (Path(path) for path in (ssl.get_default_verify_paths().cafile, *_SYSTEM_BUNDLES) if path)
    system = next((path.read_bytes() for path in paths if path.exists()), b"")
    (directory / "ca-bundle.pem").write_bytes(system + authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(CHECKIP).configure_cert(context)
    secure = ThreadingHTTPServer((address, 443), _Handler)
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    for server in (secure, ThreadingHTTPServer((address, 80), _Handler)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
