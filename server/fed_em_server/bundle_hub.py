"""A hub of one's own: gives a SuperLink signed bundles with their signatures, as Flower's public hub does.

A SuperLink takes signatures from a hub only, never from `flwr run PATH`. It asks the one that `FLWR_SUPERGRID_API_URL` names:

    POST /hub/fetch-fab  {"app_id": "@fed-em/fed-em-flower", "app_version": "0.1.0" or null}
      -> {"fab_url": "http://…", "verifications": [{"public_key_id": …, "signature": …, "signed_at": …}]}

and passes what it got on to the SuperNodes, which verify it against their own trusted entities. So nothing depends on the hub's
honesty, and it needs no protection but to be reached by the SuperLink alone; it hands out files of one folder that end in `.fab`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from fed_em.errors import CallerError, EnvironmentFault
from fed_em_protocols.addresses import split_address
from fed_em_server.bundle_signature import BUNDLE_SUFFIX, SIGNATURE_SUFFIX

_FETCH = "/hub/fetch-fab"
_MAX_REQUEST_BYTES = 10_000
_SECONDS_TO_ASK = 10.0


@dataclass(frozen=True)
class OfferedBundle:
    """A bundle in the folder.

    Args:
        path: Its file.
        app: "@publisher/name".
        version: "x.y.z".
        verifications: Its signatures, as Flower's hub words them.
    """

    path: Path
    app: str
    version: str
    verifications: tuple[dict[str, Any], ...] = field(repr=False)


class BundleHub(ThreadingHTTPServer):
    """Serves the bundles of a folder, which is read anew for each request. Serve with `serve_forever`; close as any server.

    Args:
        folder: With `NAME.fab` and `NAME.KEY.signature.json`, as `sign_bundle` writes them.
        listen: "host:port"; port 0 takes a free one.
        report: Told in sentences what was asked for.

    Raises:
        CallerError: no bundle is in the folder, or one of its files is damaged.
        EnvironmentFault: it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, folder: Path, listen: str, report: Callable[[str], None]) -> None:
        self.folder, self.report = folder, report
        if not offered_bundles(folder):
            raise CallerError(f"no bundle is in {folder}", remedy="fed-em flower-app FOLDER --sign KEY writes one")
        try:
            super().__init__(split_address(listen), _Request)
        except OSError as error:
            raise EnvironmentFault(f"cannot listen on {listen}: {error.strerror}") from None

    @property
    def url(self) -> str:
        """For `FLWR_SUPERGRID_API_URL`."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def find(self, app: str, version: str | None) -> OfferedBundle | None:
        """The bundle of an app in a version, or in the newest one if there are several."""
        fitting = [each for each in offered_bundles(self.folder) if each.app == app and version in {None, each.version}]
        return max(fitting, key=lambda each: [int(part) for part in each.version.split(".")], default=None)


def offered_bundles(folder: Path) -> tuple[OfferedBundle, ...]:
    """The bundles of a folder. Raises `CallerError` if one of its files is damaged, or two are the same version of an app."""
    found = tuple(_read_bundle(path) for path in sorted(folder.glob(f"*{BUNDLE_SUFFIX}")))
    for one, other in pairwise(sorted(found, key=lambda each: (each.app, each.version))):
        if (one.app, one.version) == (other.app, other.version):
            raise CallerError(
                f"{one.path} and {other.path} are both {one.app} {one.version}", remedy="remove the older one"
            )
    return found


def _read_bundle(path: Path) -> OfferedBundle:
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as packed:
            described = tomllib.loads(packed.read("pyproject.toml").decode())
        project, publisher = described["project"], described["tool"]["flwr"]["app"]["publisher"]
        return OfferedBundle(path, f"@{publisher}/{project['name']}", project["version"], tuple(_signatures(path)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CallerError(f"{path}, or a signature beside it, cannot be read: {error}") from None


def _signatures(path: Path) -> Iterator[dict[str, Any]]:
    for beside in sorted(path.parent.glob(f"{path.stem}.*{SIGNATURE_SUFFIX}")):
        yield json.loads(beside.read_text(encoding="utf-8"))


class _Request(BaseHTTPRequestHandler):
    """One request of a SuperLink."""

    server: BundleHub
    timeout = _SECONDS_TO_ASK

    def do_POST(self) -> None:
        asked = self._asked() if self.path == _FETCH else None
        if asked is None:
            return self._answer(HTTPStatus.BAD_REQUEST, {"detail": f"ask for a bundle at {_FETCH}"})
        named = "==".join(filter(None, asked))
        try:
            found = self.server.find(*asked)
        except CallerError as error:
            self.server.report(error.diagnostics())
            return self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"detail": str(error)})
        if found is None:
            self.server.report(f"asked for {named}, which is not here")
            return self._answer(HTTPStatus.NOT_FOUND, {"detail": f"{named} is not here"})
        digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
        self.server.report(f"asked for {named}: SHA-256 {digest}, signatures: {len(found.verifications)}")
        url = f"{self.server.url}/{found.path.name}"
        return self._answer(HTTPStatus.OK, {"fab_url": url, "verifications": found.verifications})

    def do_GET(self) -> None:
        for path in self.server.folder.glob(f"*{BUNDLE_SUFFIX}"):
            if self.path == f"/{path.name}":
                return self._send(HTTPStatus.OK, "application/octet-stream", path.read_bytes())
        return self._answer(HTTPStatus.NOT_FOUND, {"detail": "no such bundle"})

    def log_message(self, format: str, *args: Any) -> None:
        """The hub reports in sentences of its own."""

    def _asked(self) -> tuple[str, str | None] | None:
        """App and version, if the request has them."""
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > _MAX_REQUEST_BYTES:
            return None
        try:
            asked = json.loads(self.rfile.read(int(size)))
            app, version = asked["app_id"], asked.get("app_version")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return (app, version) if isinstance(app, str) and isinstance(version, str | None) else None

    def _answer(self, status: HTTPStatus, said: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(said).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
