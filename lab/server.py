# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The API server: moto at one HTTP endpoint, with a log of calls, faults and an IAM policy."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from lab.api import checkip, computing, ec2, policy, untyped
from lab.api.faults import Fault
from lab.api.runtime import Runtime, set_current
from lab.common import environment, settings
from lab.common.machine import MakeMachine
from lab.process.machine import ProcessMachine

_FILTER_MAY_CHANGE = re.compile("SecurityGroup|ModifyInstanceAttribute|NetworkInterface|ReplaceSecurity")
_KEY = re.compile(r"Credential=([^/]+)/")
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
_ERROR_CODE = re.compile(r"<Code>([^<]+)</Code>")
_STATUSES = {"DryRunOperation": 412}  # where moto says 400
_DROP_LOOK = 0.05  # seconds between two checks whether sshd must be ended


@dataclass(frozen=True)
class Call:
    """One API request."""

    service: str
    action: str
    region: str
    parameters: dict[str, Any]


def read_call(environ: dict[str, Any], body: bytes) -> Call:
    """Read a request. Its service and region are in the signature's scope, its action in the form or in a header."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    region, service = scope.groups() if scope else ("", "")
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        try:
            parameters = json.loads(body or b"{}")
        except ValueError:
            parameters = {}
        return Call(service, target.rpartition(".")[2], region, parameters)
    form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    action = form.pop("Action", "")
    form.pop("Version", None)
    if "UserData" in form:
        form["UserData"] = f"({len(form['UserData'])} characters of base64)"  # it may hold a private key
    return Call(service, action, region, form)


def error_body(call: Call, fault: Fault) -> tuple[str, bytes]:
    """Return (content type, body) of a fault's error, in the format of the service."""
    request = str(uuid.uuid4())
    if call.service == "ec2":
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
            f"<Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
            f"</Error></Errors><RequestID>{request}</RequestID></Response>"
        )
        return "text/xml", text.encode()
    if call.service in ("ssm", "kms"):
        return "application/x-amz-json-1.1", json.dumps({"__type": fault.code, "message": fault.message}).encode()
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(fault.code)}</Code>"
        f"<Message>{escape(fault.message)}</Message></Error><RequestId>{request}</RequestId></ErrorResponse>"
    )
    return "text/xml", text.encode()


def error_code(status: int, body: bytes) -> str:
    """Return the error code in a reply; empty if the reply is not an error."""
    if status < 400:
        return ""
    text = body.decode("utf-8", "replace")
    found = _ERROR_CODE.search(text)
    if found:
        return found.group(1)
    try:
        return str(json.loads(text).get("__type", "")).rpartition("#")[2]
    except (ValueError, AttributeError):
        return ""


class Api:
    """The WSGI application."""

    def __init__(self, lab: Runtime, allowed: policy.Policy | None) -> None:
        self._lab, self._allowed = lab, allowed
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._log = open(lab.state / "calls.jsonl", "a", buffering=1)  # noqa: SIM115  open until the lab ends
        self._log_lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = time.time()
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        call = read_call(environ, body)
        faults = self._lab.faults.for_call(call.action)
        time.sleep(sum(each.delay for each in faults))
        fault = next((each for each in faults if each.replaces_reply), None) or self._refusal(environ, call)
        headers: list[tuple[str, str]] = []
        status, reply = 0, b""
        if fault is None or fault.after:
            status, headers, reply = self._ask_moto(environ, call)
        code = error_code(status, reply)
        status = _STATUSES.get(code, status)
        if fault:
            kind, reply = error_body(call, fault)
            status, headers, code = fault.status, [("Content-Type", kind)], fault.code or "dropped"
        self._record(call, started, status, code, fault)
        if fault and fault.drop:
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError  # werkzeug then sends nothing
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", [*headers, ("Content-Length", str(len(reply)))])
        return [reply]

    def _refusal(self, environ: dict[str, Any], call: Call) -> Fault | None:
        """Return the error of a call that the policy does not allow; None if it is allowed."""
        key = _KEY.search(environ.get("HTTP_AUTHORIZATION", ""))
        if self._allowed is None or not key or key[1] != environment.ACCESS_KEY:
            return None
        with self._lab.lock:
            tags = untyped.ec2_backends[policy.ACCOUNT][call.region or settings.Settings.region].tags
            reader = policy.Reader(call.region, lambda name: tags.get(name, {}))
            refused = self._allowed.refused(reader.requests(call.service, call.action, call.parameters))
        if refused is None:
            return None
        code, status = ("AccessDeniedException", 400) if call.service == "ssm" else ("UnauthorizedOperation", 403)
        return Fault(code=code, status=status, message=policy.refusal(refused))

    def _ask_moto(self, environ: dict[str, Any], call: Call) -> tuple[int, list[tuple[str, str]], bytes]:
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            answer[:] = [int(status.split()[0]), headers]
            return lambda data: None

        with self._lab.lock:
            chunks = self._moto(environ, start_response)
            reply = b"".join(chunks)
            if _FILTER_MAY_CHANGE.search(call.action):
                computing.apply_firewall(self._lab)
        return answer[0], answer[1], reply

    def _record(self, call: Call, started: float, status: int, code: str, fault: Fault | None) -> None:
        entry = {
            "time": round(started, 3),
            "duration": round(time.time() - started, 3),
            "service": call.service,
            "action": call.action,
            "region": call.region,
            "parameters": call.parameters,
            "outcome": "error" if code else "ok",
            "status": status,
            "error": code or None,
        }
        if fault:
            entry["fault"] = "after" if fault.after else "instead"
        with self._log_lock:
            self._log.write(json.dumps(entry) + "\n")


class _Handler(untyped.MotoRequestHandler):  # type: ignore[misc]  # of Any: see untyped
    protocol_version = "HTTP/1.1"  # clients keep their connection, as with AWS

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: the calls are in calls.jsonl."""


def _watch_for_drops(lab: Runtime) -> None:
    """End sshd when the faults file says so, once for each instance while the entry is there."""
    done: set[str] = set()
    since: dict[str, float] = {}
    while True:
        time.sleep(_DROP_LOOK)
        content = lab.faults.current()
        bytes_limit, seconds = content.get("drop_sshd_after_bytes"), content.get("drop_sshd_after_seconds")
        if bytes_limit is None and seconds is None:
            done.clear()
            since.clear()
            continue
        with lab.lock:
            machines = {
                instance.id: instance.machine for instance in computing.all_instances() if instance.state == "running"
            }
        for name, machine in machines.items():
            if machine is None or name in done:
                continue
            read = machine.ssh_bytes()
            if machine.has_session():
                since.setdefault(name, time.monotonic())
            late = seconds is not None and name in since and time.monotonic() - since[name] >= float(seconds)
            if late or (bytes_limit is not None and read >= int(bytes_limit)):
                machine.kill_sshd()
                done.add(name)


def _machines(state: Path, chosen: settings.Settings, platform: dict[str, str] | None) -> MakeMachine:
    if platform is None:
        return ProcessMachine
    from lab.vm import host  # imported here because most labs do not need it

    return host.start(state, chosen, platform)


def main(state_directory: str, ready: int, platform: dict[str, str] | None = None) -> None:
    """Serve until killed.

    :param ready: the descriptor to which the URL is written as soon as it can be used.
    :param platform: the fields of a ``vm.qemu.Platform``, or None if instances are process trees.
    """
    state = Path(state_directory)
    chosen = settings.read(os.environ)
    lab = Runtime(state, chosen, _machines(state, chosen, platform))
    set_current(lab)
    ec2.install()
    checkip.start(state / "lab", lab.firewall.network.caller)
    with lab.lock:
        lab.firewall.apply([])
    server = make_server("127.0.0.1", 0, Api(lab, policy.load(chosen.policy)), threaded=True, request_handler=_Handler)
    server.daemon_threads = True  # type: ignore[attr-defined]  # of socketserver.ThreadingMixIn
    threading.Thread(target=_watch_for_drops, args=(lab,), daemon=True).start()
    os.write(ready, f"http://127.0.0.1:{server.port}\n".encode())
    os.close(ready)
    server.serve_forever()
