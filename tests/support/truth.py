"""Holds every answer of a service against the service's own OpenAPI document."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema_rs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kilonova.web.openapi import document
from kilonova.web.openapi_answers import SOMETIMES
from kilonova.web.router import Router
from kilonova.web.routes import PARAMETER, Api


class Untrue(AssertionError):
    """An answer that the document does not know."""


class Truth:
    """The documents of one service, and what an exchange says against them."""

    def __init__(self, api: Api[Any]) -> None:
        self.api = api
        self._router = Router(api)
        self._document = functools.cache(self._paths)
        self._schema = functools.cache(self._compiled)

    def check(self, method: str, path: str, answer: Answer) -> None:
        """Untrue unless the answer is one the document has for the operation."""
        found = self._router.find(path)
        slot = found.methods.get(method) if found is not None else None
        if slot is None or not slot.first.rooted:
            return
        version = self._version(answer.headers.get("openstack-api-version"))
        shape = PARAMETER.sub("{}", slot.first.path or "/")
        operation = self._document(version).get((shape, method))
        if operation is None or answer.status == 499:
            return
        said = f"{method} {slot.first.path} at {version}: {answer.status}"
        if str(answer.status) not in operation["responses"]:
            raise Untrue(f"{said} is not in the document: {answer.body[:300]!r}")
        if not answer.body or not _is_json(answer):
            return
        schema = self._schema(version, shape, method, answer.status)
        if schema is None:
            raise Untrue(f"{said} has a body that the document does not have.")
        for error in schema.iter_errors(json.loads(answer.body)):
            place = ".".join(map(str, error.instance_path))
            raise Untrue(f"{said} does not fit the document at {place}: {error.message[:400]}")

    def _version(self, header: str | None) -> int:
        versions = self.api.versions
        if versions is None:
            return 0
        return int(header.rpartition(".")[2]) if header else versions.minimum

    def _paths(self, version: int) -> dict[tuple[str, str], Any]:
        made = document(self.api, version)
        errors = made["components"]["responses"]
        found = {}
        for path, item in made["paths"].items():
            for method, operation in item.items():
                for status, answer in operation["responses"].items():
                    if "$ref" in answer:
                        operation["responses"][status] = errors[answer["$ref"].rpartition("/")[2]]
                found[PARAMETER.sub("{}", path), method.upper()] = operation
        return found

    def _compiled(
        self, version: int, shape: str, method: str, status: int
    ) -> jsonschema_rs.Draft202012Validator | None:
        answer = self._document(version)[shape, method]["responses"][str(status)]
        tree = answer.get("content", {}).get("application/json", {}).get("schema")
        tree = answer.get(SOMETIMES) if tree is None else tree
        return jsonschema_rs.Draft202012Validator(tree) if tree is not None else None


class Answer:
    """What went out: status, headers, and the body as far as it was sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def hear(self, message: Message) -> None:
        """One message of the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


def _is_json(answer: Answer) -> bool:
    return "json" in answer.headers.get("content-type", "")


def truthful(app: ASGIApp, api: Api[Any]) -> ASGIApp:
    """``app``, in whose answers nothing may stand that ``api``'s documents do not say."""
    truth = _truth(api)

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer()

        async def sending(message: Message) -> None:
            answer.hear(message)
            await send(message)

        await app(scope, receive, sending)
        if scope["type"] == "http" and scope["method"] != "HEAD":
            truth.check(scope["method"], scope["path"], answer)

    return checked


_known: dict[str, Truth] = {}


def _truth(api: Api[Any]) -> Truth:
    """One for each service: compiling documents takes time."""
    return _known.setdefault(api.name, Truth(api))
