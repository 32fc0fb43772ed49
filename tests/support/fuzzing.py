"""Fuzzes one running cloud from its own OpenAPI documents; runs inside the cloud's namespace.

``python -m tests.support.fuzzing CLOUDS_YAML FOLDER SECONDS [SERVICE …]`` prints a JSON report.
The documents are asked of the services. Parameters that name things may also take ids and names
of things that are there, else every path would only ever be 404.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# 501 and 503 are answers a document may have; what it does not say is found all the same.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 503]
[phases.coverage]
operation-ordering = "none"
[phases.fuzzing]
operation-ordering = "none"
"""
# Service, root below the endpoint's port, microversion header, versions, clouds.
TARGETS: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("compute", "/v2.1", "compute 2.{}", ("104", "53", "1"), ("kilonova-admin", "kilonova")),
    ("placement", "", "placement 1.{}", ("39", "0"), ("kilonova-admin",)),
    ("volume", "/v3", "volume 3.{}", ("71",), ("kilonova-admin", "kilonova")),
    ("network", "", "", ("",), ("kilonova-admin", "kilonova")),
    ("image", "/v2", "", ("",), ("kilonova-admin", "kilonova")),
    ("identity", "/v3", "", ("",), ("kilonova", "kilonova-admin")),
)
CATALOG = {"volume": ("block-storage", "volumev3", "volume")}
WEIGHTS = {"compute": 5}
OWN = re.compile(r"fuzz")


class Client:
    """Plain requests as one user of a clouds.yaml."""

    def __init__(self, auth: dict[str, Any]) -> None:
        domain = {"name": "Default"}
        who = {"name": auth["username"], "password": auth["password"], "domain": domain}
        scope = {"project": {"name": auth["project_name"], "domain": domain}}
        methods = {"methods": ["password"], "password": {"user": who}}
        self.token = ""
        self.user = auth["username"]
        status, headers, body = self.send(
            "POST",
            f"{auth['auth_url']}/auth/tokens",
            {"auth": {"identity": methods, "scope": scope}},
        )
        if status != 201:
            raise RuntimeError(f"no token for {self.user}: {status} {body}")
        self.token = headers["X-Subject-Token"]
        self.project = body["token"]["project"]["id"]
        self.urls = {
            entry["type"]: next(
                e["url"].rstrip("/") for e in entry["endpoints"] if e["interface"] == "public"
            )
            for entry in body["token"]["catalog"]
        }

    def url(self, service: str) -> str:
        """Scheme, host and port of a service."""
        for name in CATALOG.get(service, (service,)):
            if name in self.urls:
                return "/".join(self.urls[name].split("/")[:3])
        raise KeyError(service)

    def send(
        self, method: str, url: str, body: Any = None, version: str = ""
    ) -> tuple[int, Any, Any]:
        """Status, headers and JSON of one request."""
        headers = {"Content-Type": "application/json", "X-Auth-Token": self.token}
        if version:
            headers["OpenStack-API-Version"] = version
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                raw = answer.read()
                return answer.status, answer.headers, json.loads(raw) if raw else None
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode(errors="replace")


class Things:
    """What is there, by the name of its collection: ``servers`` → ids and names."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.known: dict[str, list[str]] = {}

    def look(self, service: str, root: str, version: str, document: dict[str, Any]) -> None:
        """Ask every list of a service."""
        for path, item in document["paths"].items():
            if "{" in path or "get" not in item or path.startswith("/ext/"):
                continue
            url = f"{self.client.url(service)}{root}{path}"
            status, _, body = self.client.send("GET", url, version=version)
            if status == 200 and isinstance(body, dict):
                for name, rows in body.items():
                    if isinstance(rows, list):
                        self._keep(name, rows)

    def _keep(self, name: str, rows: list[Any]) -> None:
        values = self.known.setdefault(name.replace("-", "_"), [])
        for row in rows[:50]:
            inner = row
            if isinstance(row, dict) and len(row) == 1:
                inner = next(iter(row.values()))
            found = (
                [inner.get(key) for key in ("id", "uuid", "name", "host")]
                if isinstance(inner, dict)
                else [inner]
            )
            for value in found:
                text = str(value) if isinstance(value, (str, int)) else ""
                if text and text not in values and len(values) < 40:
                    values.append(text)

    def named(self, collection: str) -> list[str]:
        """Ids and names in a collection, as the path spells it."""
        plain = collection.replace("-", "_").removeprefix("os_").split(":")[0]
        return self.known.get(plain, self.known.get(collection, []))

    def of(self, parameter: str) -> list[str]:
        """By the name of a parameter or property: ``server_id``, ``flavorRef``."""
        word = re.sub(r"(_id|_uuid|Ref|Id)$", "", parameter)
        word = {"net": "network", "instance": "server", "source": "volume"}.get(word, word)
        return self.known.get(word + "s", [])


def enrich(document: dict[str, Any], things: Things, *, only: re.Pattern[str] | None) -> Any:
    """The document with the ids of things that are there."""
    made = copy.deepcopy(document)
    # Time may end before the last operation: let it be another one each time.
    paths = list(made["paths"].items())
    random.shuffle(paths)
    made["paths"] = dict(paths)
    for path, item in made["paths"].items():
        for operation in item.values():
            # Sent with each request; without it another version answers, which this is not of.
            operation["parameters"] = [
                each
                for each in operation.get("parameters", ())
                if each["name"] != "OpenStack-API-Version"
            ]
            for parameter in operation["parameters"]:
                values = _for_parameter(path, parameter, things)
                _allow(parameter, "schema", values, only)
            body = operation.get("requestBody", {}).get("content", {})
            for content in body.values():
                _walk(content.get("schema"), things, only)
    return made


def _for_parameter(path: str, parameter: dict[str, Any], things: Things) -> list[str]:
    name = parameter["name"]
    if parameter["in"] == "path":
        parts = path.split("/")
        place = parts.index("{" + name + "}")
        found = things.named(parts[place - 1]) or things.of(name)
        return found or (["key", "k"] if name in ("key", "tag") else [])
    return things.of(name) if parameter["in"] == "query" else []


def _allow(
    holder: dict[str, Any], key: str, values: list[str], only: re.Pattern[str] | None
) -> None:
    if only is not None:
        values = [value for value in values if only.search(value)]
    if values:
        holder[key] = {"anyOf": [{"enum": values}, holder.get(key, {})]}


def _walk(tree: Any, things: Things, only: re.Pattern[str] | None) -> None:
    if isinstance(tree, list):
        for item in tree:
            _walk(item, things, only)
    if not isinstance(tree, dict):
        return
    # Schemathesis cannot make text for classes of characters; what it makes then may be refused.
    if "\\p{" in str(tree.get("pattern", "")):
        del tree["pattern"]
    for name, schema in list(tree.get("properties", {}).items()):
        if isinstance(schema, dict) and schema.get("type") in ("string", ["string", "null"]):
            _allow(tree["properties"], name, things.of(name), only)
    for value in list(tree.values()):
        _walk(value, things, only)


def fill(admin: Client, client: Client) -> None:
    """Something of most kinds; what was deleted is made again."""
    compute = f"{client.url('compute')}/v2.1"
    newest = "compute 2.96"
    _, _, services = admin.send("GET", f"{compute}/os-services", version="compute 2.53")
    for row in services["services"]:
        change = {"status": "enabled", "forced_down": False}
        admin.send("PUT", f"{compute}/os-services/{row['id']}", change, "compute 2.53")
    _, _, found = admin.send("GET", f"{compute}/flavors?is_public=None")
    if len(found["flavors"]) < 2:
        for number in (1, 2):
            new = {"name": f"small{number}", "ram": 64, "vcpus": 1, "disk": 1}
            admin.send("POST", f"{compute}/flavors", {"flavor": new})
    _, _, found = admin.send("GET", f"{compute}/flavors")
    flavor = found["flavors"][0]["id"] if found["flavors"] else "none"
    _, _, found = client.send("GET", f"{client.url('image')}/v2/images")
    image = found["images"][0]["id"] if found["images"] else ""
    for each in (client, admin):
        _, _, found = each.send("GET", f"{compute}/servers", version=newest)
        for number in range(3 - len(found["servers"])):
            server = {
                "name": f"s{number}",
                "imageRef": image,
                "flavorRef": flavor,
                "networks": "none" if number else "auto",
                "metadata": {"key": "k"},
                "tags": ["key"],
            }
            each.send("POST", f"{compute}/servers", {"server": server}, newest)
        each.send("POST", f"{compute}/os-keypairs", {"keypair": {"name": "k1"}})
        group = {"name": "g", "policies": ["soft-affinity"]}
        each.send("POST", f"{compute}/os-server-groups", {"server_group": group}, "compute 2.15")
        volumes = f"{each.url('volume')}/v3"
        for path in ("volumes", "snapshots"):
            _, _, there = each.send("GET", f"{volumes}/{path}")
            if isinstance(there, dict) and not there[path]:
                _, _, have = each.send("GET", f"{volumes}/volumes")
                body: dict[str, Any] = {"size": 1, "name": "v"}
                if path == "snapshots" and have["volumes"]:
                    body = {"volume_id": have["volumes"][0]["id"], "name": "s", "force": True}
                each.send("POST", f"{volumes}/{path}", {path[:-1]: body})
    admin.send("POST", f"{compute}/os-aggregates", {"aggregate": {"name": "a1"}})
    _identity(admin)


def _identity(admin: Client) -> None:
    """Things of one's own to break: the ones everybody lives by are not offered."""
    root = f"{admin.url('identity')}/v3"
    for path in ("projects", "users", "roles", "groups", "domains"):
        admin.send("POST", f"{root}/{path}", {path[:-1]: {"name": f"fuzz-{path}"}})


def failures(report: Path) -> Iterator[dict[str, Any]]:
    """What Schemathesis found, out of its events."""
    for line in report.read_text().splitlines():
        event = json.loads(line)
        finished = event.get("ScenarioFinished")
        if finished is None:
            continue
        recorder = finished.get("recorder", {})
        for case_id, checks in recorder.get("checks", {}).items():
            for check in checks:
                if check.get("status") != "failure":
                    continue
                failure = check.get("failure_info", {}).get("failure", {})
                answer = recorder.get("interactions", {}).get(case_id, {}) or {}
                yield {
                    "label": finished.get("recorder", {}).get("label"),
                    "check": check.get("name"),
                    "title": failure.get("title"),
                    "message": str(failure.get("message"))[:600],
                    "request": _request(answer.get("request")),
                    "response": _response(answer.get("response")),
                }


def _request(row: Any) -> str:
    if not row:
        return ""
    return f"{row.get('method')} {row.get('uri')} {_text(row.get('body'))}"


def _response(row: Any) -> str:
    if not row:
        return ""
    return f"{row.get('status_code')} {_text(row.get('content') or row.get('body'))}"


def _text(body: Any) -> str:
    if isinstance(body, dict) and "$base64" in body:
        body = base64.b64decode(body["$base64"]).decode(errors="replace")
    return str(body)[:400]


def one(
    client: Client, admin: Client, folder: Path, target: tuple[str, str, str, str], seconds: int
) -> dict[str, Any]:
    """One service at one version as one user: first the edges of its schemas, then by chance."""
    service, root, header, version = target
    word = header.format(version) if header else ""
    base = client.url(service) + root
    status, _, document = client.send("GET", f"{base}/ext/openapi.json", version=word)
    if status != 200:
        raise RuntimeError(f"{service}: no document: {status} {document}")
    things = Things(admin if service == "identity" else client)
    for name, path in (("compute", "/v2.1"), ("network", ""), ("image", "/v2")):
        _, _, other = client.send("GET", f"{client.url(name)}{path}/ext/openapi.json")
        things.look(name, path, "compute 2.40" if name == "compute" else "", other)
    things.look(service, root, word, document)
    only = OWN if service == "identity" else None
    name = f"{service}-{version}-{client.user}"
    headers = [f"X-Auth-Token: {client.token}"]
    if word:
        headers.append(f"OpenStack-API-Version: {word}")
    found: list[dict[str, Any]] = []
    requests, started = 0, time.monotonic()
    for phase, share in (("coverage", seconds // 3), ("fuzzing", seconds - seconds // 3)):
        file = folder / f"{name}-{phase}.json"
        file.write_text(json.dumps(enrich(document, things, only=only)))
        report = _ask(file, base, phase, headers, max(3, share))
        found += failures(report)
        requests += _requests(report)
    spent = round(time.monotonic() - started)
    return {"name": name, "seconds": spent, "requests": requests, "failures": found}


def _ask(file: Path, base: str, phase: str, headers: list[str], seconds: int) -> Path:
    """Let Schemathesis ask; its report. RuntimeError when it did not come to an end."""
    report = file.with_suffix(".ndjson")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(file.parent / "fuzz.toml"),
        "run", str(file), "--url", base, *(word for row in headers for word in ("-H", row)),
        "--checks", ",".join(CHECKS), "--phases", phase,
        "--continue-on-failure", "--no-shrink", "--max-time", str(seconds),
        "--max-examples", "4", "--request-timeout", "30", "--warnings", "off",
        "--generation-database", "none", "--suppress-health-check", "all",
        "--report", "ndjson", "--report-ndjson-path", str(report), "--no-color",
        "--exclude-path-regex", "^/auth/tokens$|^/ext/",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)
    file.with_suffix(".out").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"schemathesis ended with {done.returncode}: {done.stdout[-3000:]}")
    return report


def _requests(report: Path) -> int:
    count = 0
    for line in report.read_text().splitlines():
        finished = json.loads(line).get("ScenarioFinished") or {}
        count += len(finished.get("recorder", {}).get("interactions", {}))
    return count


def main() -> None:
    """Share the time among the targets."""
    clouds = yaml.safe_load(Path(sys.argv[1]).read_text())["clouds"]
    folder, seconds, wanted = Path(sys.argv[2]), int(sys.argv[3]), set(sys.argv[4:])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fuzz.toml").write_text(CONFIG)
    runs = [
        (service, root, header, version, cloud)
        for service, root, header, versions, names in TARGETS
        for version in versions
        for cloud in names
        if not wanted or service in wanted or f"{service}-{version}" in wanted
    ]
    whole = sum(WEIGHTS.get(run[0], 1) for run in runs)
    results = []
    for service, root, header, version, cloud in runs:
        admin, client = Client(clouds["kilonova-admin"]["auth"]), Client(clouds[cloud]["auth"])
        fill(admin, client)
        share = max(5, seconds * WEIGHTS.get(service, 1) // whole)
        results.append(one(client, admin, folder, (service, root, header, version), share))
        print(json.dumps({k: v for k, v in results[-1].items() if k != "failures"}), flush=True)
    print(json.dumps({"runs": results}))


if __name__ == "__main__":
    main()
