"""Run the gabbi files that the package ``openstack-placement`` ships against a Placement URL.

``python gabbits.py MODE URL``: prints a JSON object with the names of what passed and, of what
failed, why. MODE chooses the files by the policy the service must run with: ``default``,
``secure``, ``legacy``, ``open`` or ``cors``; authentication is ``noauth2``. The files' worlds are
made by Placement's own fixture classes, whose calls on its objects become requests here. The
service is emptied before each file. Runs with the judges' interpreter; nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
import uuid
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import yaml  # noqa: E402
from gabbi import driver  # noqa: E402
from oslo_utils.fixture import uuidsentinel  # noqa: E402
from placement.tests import functional  # noqa: E402
from placement.tests.functional.fixtures import gabbits as theirs  # noqa: E402

MODES = {
    "SecureRBACPolicyFixture": "secure",
    "LegacyRBACPolicyFixture": "legacy",
    "OpenPolicyFixture": "open",
    "CORSFixture": "cors",
}
"""The fixture class that tells which policy a file needs; any other file takes the default."""
UUIDS = (
    *("RP_UUID", "RP_UUID1", "RP_UUID2", "PARENT_PROVIDER_UUID", "ALT_PARENT_PROVIDER_UUID"),
    *("RP_NAME", "RP_NAME1", "RP_NAME2", "INSTANCE_UUID", "MIGRATION_UUID", "CONSUMER_UUID"),
    *("PROJECT_ID", "PROJECT_ID_ALT", "ADMIN_PROJECT_ID", "SERVICE_PROJECT_ID"),
    *("USER_ID", "USER_ID_ALT"),
)
CLASSES = {
    "CUSTOM_RES_CLASS": "CUSTOM_IRON_NFV",
    "CUSTOM_RES_CLASS1": "CUSTOM_IRON_NFV1",
    "CUSTOM_RES_CLASS2": "CUSTOM_IRON_NFV2",
}
HEADERS = {
    "x-auth-token": "admin",
    "x-roles": "admin,member,reader,service",
    "content-type": "application/json",
}


class Service:
    """The Placement under test, asked as its administrator."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(
        self, method: str, path: str, body: Any = None, *, at: str = "1.39", lax: bool = False
    ) -> Any:
        """One request; the decoded answer. RuntimeError when refused, unless ``lax``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**HEADERS, "openstack-api-version": f"placement {at}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            if lax:
                return None
            said = refused.read()[:300].decode()
            raise RuntimeError(f"{method} {path}: {refused.code} {said}") from None
        return json.loads(text) if text else None

    def empty(self) -> None:
        """Remove everything: a tree loses its leaves first, so several rounds."""
        while providers := self.ask("GET", "/resource_providers")["resource_providers"]:
            for provider in providers:
                path = f"/resource_providers/{provider['uuid']}"
                for consumer in self.ask("GET", f"{path}/allocations")["allocations"]:
                    self.ask("DELETE", f"/allocations/{consumer}", lax=True)
            for provider in providers:
                self.ask("DELETE", f"/resource_providers/{provider['uuid']}", lax=True)
        for found in self.ask("GET", "/resource_classes")["resource_classes"]:
            if found["name"].startswith("CUSTOM_"):
                self.ask("DELETE", f"/resource_classes/{found['name']}")
        for name in self.ask("GET", "/traits?name=startswith:CUSTOM_")["traits"]:
            self.ask("DELETE", f"/traits/{name}")


class Provider:
    """What the fixtures hold of a provider they made."""

    def __init__(self, service: Service, name: str, own: str) -> None:
        self.name = name
        self.uuid = own
        self._context = None
        self._service = service

    def put(self, what: str, values: list[str]) -> None:
        """Replace its traits or aggregates."""
        path = f"/resource_providers/{self.uuid}"
        generation = self._service.ask("GET", path)["generation"]
        body = {what: values, "resource_provider_generation": generation}
        self._service.ask("PUT", f"{path}/{what}", body)

    def set_aggregates(self, values: Any) -> None:
        """The fixtures' own spelling."""
        self.put("aggregates", list(values))


class Outside:
    """Users, projects and consumers: Placement learns of them by allocations only."""

    def __init__(self, context: Any = None, external_id: str = "", uuid: str = "") -> None:
        self.external_id = external_id
        self.uuid = uuid
        self.user: Any = None
        self.project: Any = None

    def create(self) -> None:
        """Nothing to do."""


def answered(service: Service) -> dict[str, Any]:
    """The functions that the fixture classes call, by name."""

    def create_provider(context: Any, name: str, *aggregates: str, **more: Any) -> Provider:
        made = Provider(service, name, more.get("uuid") or getattr(uuidsentinel, name))
        body = {"name": name, "uuid": made.uuid}
        if more.get("parent"):
            body["parent_provider_uuid"] = more["parent"]
        service.ask("POST", "/resource_providers", body)
        if aggregates:
            made.set_aggregates(aggregates)
        return made

    def add_inventory(provider: Provider, name: str, total: int, **more: Any) -> None:
        if name.startswith("CUSTOM_"):
            service.ask("PUT", f"/resource_classes/{name}")
        body = {"resource_class": name, "total": total, "max_unit": total, **more}
        service.ask("POST", f"/resource_providers/{provider.uuid}/inventories", body)

    def set_traits(provider: Provider, *traits: str) -> None:
        for name in traits:
            if name.startswith("CUSTOM_"):
                service.ask("PUT", f"/traits/{name}")
        provider.put("traits", list(traits))

    def ensure_consumer(context: Any, user: Any, project: Any, consumer_id: Any = None) -> Outside:
        made = Outside(uuid=consumer_id or str(uuid.uuid4()))
        made.user, made.project = user, project
        return made

    def set_allocation(context: Any, provider: Provider, consumer: Outside, used: Any) -> None:
        body = {
            "allocations": {provider.uuid: {"resources": used}},
            "project_id": consumer.project.external_id,
            "user_id": consumer.user.external_id,
            "consumer_generation": None,
        }
        service.ask("PUT", f"/allocations/{consumer.uuid}", body, at="1.28")

    def create_user_and_project(context: Any, prefix: str = "fake") -> tuple[Outside, Outside]:
        return Outside(external_id=f"{prefix}-user"), Outside(external_id=f"{prefix}-project")

    return {name: value for name, value in locals().items() if callable(value)}


def adapt(service: Service) -> None:
    """Turn the fixture classes, as they are installed, to the service."""

    class ResourceClass:
        def __init__(self, context: Any, name: str) -> None:
            self._name = name

        def create(self) -> None:
            service.ask("PUT", f"/resource_classes/{self._name}")

    def start(self: Any) -> None:
        self.context = None
        service.empty()
        os.environ.update({name: str(uuid.uuid4()) for name in UUIDS} | CLASSES)

    theirs.APIFixture.start_fixture = start
    theirs.APIFixture.stop_fixture = lambda self: None
    for name in MODES:
        # What these prepare is the process they would run Placement in.
        for method in ("start_fixture", "stop_fixture"):
            if method in vars(getattr(theirs, name)):
                delattr(getattr(theirs, name), method)
    for name, function in answered(service).items():
        setattr(theirs.tb, name, function)
    theirs.user_obj.User = Outside
    theirs.project_obj.Project = Outside
    theirs.rc_obj.ResourceClass = ResourceClass


class Verdict(unittest.TestResult):
    """Names of what passed; of what failed, why."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []
        self.failed: dict[str, str] = {}

    def addSuccess(self, test: Any) -> None:
        """It passed."""
        self.passed.append(test.id())

    def _wrong(self, test: Any, err: Any) -> None:
        self.failed[test.id()] = str(err[1])[:400]

    addFailure = addError = _wrong


def main() -> None:
    """Copy the files of the mode to one directory and let gabbi make tests of them."""
    mode, url = sys.argv[1:]
    adapt(Service(url))
    verdict = Verdict()
    with tempfile.TemporaryDirectory() as where:
        for file in sorted((Path(functional.__file__).parent / "gabbits").glob("*.yaml")):
            text = file.read_text()
            named = {MODES.get(name) for name in yaml.safe_load(text).get("fixtures", [])}
            if mode in named or (mode == "default" and named <= {None}):
                (Path(where) / file.name).write_text(text)
        tests = driver.build_tests(
            where,
            unittest.TestLoader(),
            url=url,
            test_loader_name="gabbits",
            fixture_module=theirs,
        )
        tests.run(verdict)
    print(json.dumps({"passed": verdict.passed, "failed": verdict.failed}))


if __name__ == "__main__":
    main()
