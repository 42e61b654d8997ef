"""`Issuer`: an OIDC issuer on this machine, which serves discovery and keys, and signs what a test wants."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

from monitor.broker.port import LOOPBACK
from tests.gateway.signing import jwks, rsa, signed

AUDIENCE = "gateway"


class Issuer:
    """Use it with `with`."""

    def __enter__(self) -> Self:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = issuer.pages.get(self.path, b"{}")
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        configuration = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.pages = {"/.well-known/openid-configuration": json.dumps(configuration).encode(), "/jwks": jwks(rsa())}
        self._thread = Thread(target=self._server.serve_forever, name="issuer")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bearer(self, sid: str, subject: str, auth_time: int) -> dict[str, str]:
        """The header that a client of this session sends; `auth_time` in seconds."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "sid": sid, "auth_time": auth_time, "iat": now, "exp": now + 600}
        return {"Authorization": f"Bearer {signed(claims)}"}
