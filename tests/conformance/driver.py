"""The program the suite runs for a scenario: an administrator who adds the server and a person who uses it.

``python -m tests.conformance.driver SERVER_URL``. It plays the people and the browser and nothing else: whatever OAuth
asks of a client is the application's to do, and the browser passes on unaltered what it is sent. No step depends on
the scenario; what the person wants to do stands in ``errands.toml`` or comes from the suite.

It exits 0 when the person got everything done, and 1 with the reason on the last line otherwise.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.conformance.sign_in import keep
from tests.servers.person import Form, FormReader, tls_context

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
# The environment variable in which the runner says where the application is and who uses it.
APPLICATION = "CONFORMANCE_APPLICATION"
# A person tires at some point, but later than any limit the application is held to.
CONNECTIONS_AT_MOST = 12
PAGES_AT_MOST = 10
ANSWERS_AT_MOST = 12
# Longer than the application waits for a server (CALL_SECONDS), so that its own answer is what the person sees.
REQUEST_SECONDS = 80.0
# The revision without protected resource metadata: nobody can find out what such a server is, so it has to be said.
OLDEST_REVISION = "2025-03-26"
# What the suite hands over and an administrator has a field for; the tool calls are the person's business.
ENTERED = {"name", "client_id", "client_secret", "private_key_pem", "signing_algorithm", "issuer", "toolCalls"}
# What the suite hands over in the part of the platform the application is deployed on, and of the company sign-in.
ISSUED = {"valid_jwt", "idp_id_token"}
# What an administrator knows of the company's identity provider; each is an option of the same name.
IDENTITY_PROVIDER = {"idp_issuer", "idp_token_endpoint", "idp_client_id"}


class Ended(Exception):
    """The person could not go on; ``outcome`` is the application's own code for the reason where it gave one."""

    def __init__(self, outcome: str, words: str = "") -> None:
        super().__init__(f"{outcome}: {words}")
        self.outcome = outcome


@dataclass(frozen=True)
class Application:
    """Where the application is, and as whom to use it."""

    base_url: str
    workspace: str
    person: str
    password: str
    # The operator named this file after the person; what stands in it is the platform's business.
    platform_file: str
    # Where the company sign-in of the application keeps what it was given, a file for each person.
    sign_ins: str


@dataclass(frozen=True)
class Wish:
    """One tool the person wants to run."""

    tool: str
    arguments: dict[str, Any]


def say(text: str) -> None:
    """Write a line of the transcript."""
    print(text, flush=True)


def errand_of(scenario: str) -> dict[str, Any]:
    """Return what `errands.toml` says of a scenario, nothing for most."""
    errands = tomllib.loads((FOLDER / "errands.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = errands.get(scenario, {})
    return found


def add_server(application: Application, url: str, context: dict[str, Any], revision: str) -> str:
    """Add the server as an administrator who enters what the suite hands over, and return its ID.

    Raises:
        Ended: the application does not add it.
    """
    command = [sys.executable, "manage.py", "add_mcp_server", "Conformance", url]
    command += ["--workspace", application.workspace, "--json"]
    if "client_id" in context:
        command += ["--client-id", context["client_id"]]
    credential = context.get("client_secret") or context.get("private_key_pem") or ""
    if credential:
        command += ["--client-secret-stdin"]
    if "issuer" in context:
        command += ["--issuer", context["issuer"]]
    if "valid_jwt" in context:
        Path(application.platform_file).write_text(context["valid_jwt"] + "\n", encoding="utf-8")
        command += ["--option", f"workload_token={application.person}"]
    for option in sorted(set(context) & IDENTITY_PROVIDER):
        command += ["--option", f"{option}={context[option]}"]
    if "idp_id_token" in context:
        keep(Path(application.sign_ins), application.person, context["idp_id_token"])
    command += errand_of(os.environ["MCP_CONFORMANCE_SCENARIO"]).get("administrator", [])
    if revision == OLDEST_REVISION:
        command += ["--auth", "oauth", "--option", "legacy_endpoints=true"]
    for name in sorted(set(context) - ENTERED - ISSUED - IDENTITY_PROVIDER):
        say(f"admin   there is no field for {name}")
    done = subprocess.run(command, cwd=ROOT, input=credential, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise Ended("command_failed", done.stderr[-2000:]) from None
    if done.returncode:
        raise Ended(answer["error"]["code"], answer["error"]["message"])
    server = answer["server"]
    version = server["protocol_version"] or "version unknown"
    say(f"admin   added as {server['auth_mode']}, {version}: {server['verdict']}")
    return str(server["id"])


class Person:
    """A person with a browser at the application."""

    def __init__(self, application: Application, server_id: str) -> None:
        self._application = application
        self._server_id = server_id
        self._connections = 0
        self._answers = 0
        self._browser = httpx.Client(
            base_url=application.base_url, timeout=REQUEST_SECONDS, trust_env=False, verify=tls_context()
        )

    def sign_in(self) -> None:
        """Sign in at the application's own page."""
        form = next(form for form in self._forms_at("/accounts/login/") if "password" in form.fields)
        answer = self._browser.post(
            form.action or "/accounts/login/",
            data={**form.values, "username": self._application.person, "password": self._application.password},
        )
        if answer.status_code != 302:
            raise Ended("not_signed_in", f"{answer.status_code} {answer.text[:500]}")

    def tools(self) -> list[dict[str, Any]]:
        """Look at the server's tools."""
        return list(self._insist("list", lambda: self._browser.get(self._api("tools/")))["tools"])

    def run(self, wish: Wish) -> None:
        """Run a tool and read its result."""
        answer = self._insist(
            f"run {wish.tool}",
            lambda: self._browser.post(
                self._api(f"tools/{wish.tool}/call/"),
                json={"arguments": wish.arguments},
                headers={"X-CSRFToken": self._browser.cookies.get("csrftoken") or ""},
            ),
        )
        say(f"person  read {json.dumps(answer['result'], ensure_ascii=False)[:500]}")

    def _insist(self, what: str, ask: Callable[[], httpx.Response]) -> dict[str, Any]:
        """Ask, and as often as the application says where to connect, go there and ask again."""
        while True:
            answer = ask()
            body = answer.json()
            if answer.status_code == 200:
                say(f"person  {what}: ok")
                return dict(body)
            error = body["error"]
            say(
                f"person  {what}: {answer.status_code} {error['code']}: {error['message']} {error.get('next_step', '')}"
            )
            if error["code"] == "input_required" and self._answers < ANSWERS_AT_MOST:
                self._answers += 1
                ask = self._answering(error)
                continue
            if "connect_url" not in error or self._connections == CONNECTIONS_AT_MOST:
                raise Ended(error["code"], error["message"])
            self._connections += 1
            self._connect(error)

    def _answering(self, error: dict[str, Any]) -> Callable[[], httpx.Response]:
        """Answer what the server asks, as somebody does who fills in what is needed and leaves the rest as it is."""
        answers = {question["key"]: answer_to(question) for question in error["questions"]}
        say(f"person  answers {json.dumps(answers)}")
        return lambda: self._browser.post(
            f"/api/v1/calls/{error['call']}/resume/",
            json={"answers": answers},
            headers={"X-CSRFToken": self._browser.cookies.get("csrftoken") or ""},
        )

    def _connect(self, error: dict[str, Any]) -> None:
        """Press the button on the page the error names, go where it leads, and come back."""
        form = self._connect_button(error["connect_url"])
        if form is None:
            raise Ended(error["code"], f"There is no button to connect with. {error.get('next_step', '')}")
        started = self._browser.post(form.action, data=form.values, headers={"Accept": "application/json"})
        body = started.json()
        if started.status_code != 200:
            raise Ended(body["error"]["code"], body["error"]["message"])
        if body["status"] != "redirect":
            raise Ended(body["status"], "The button leads nowhere.")
        callback = self._follow(body["authorization_url"])
        page = self._browser.get(callback)
        code = re.search(r"<code>([a-z_]+)</code>", page.text)
        say(f"person  came back: {page.status_code} {code.group(1) if code else ''}".rstrip())
        if page.status_code != 200:
            raise Ended(code.group(1) if code else "callback", " ".join(re.findall(r"<p>([^<]*)</p>", page.text)))

    def _connect_button(self, url: str) -> Form | None:
        """Return what pressing the server's button sends: the form it belongs to, to the button's own address."""
        page = self._page(url)
        reader = FormReader()
        reader.feed(page)
        for button in re.findall(r"<button\b[^>]*>", page):
            given = dict(re.findall(r'([a-z]+)="([^"]*)"', button))
            if given.get("formaction", "").endswith("/mcp/oauth/start/") and given.get("value") == self._server_id:
                token = next(form.values for form in reader.forms if "csrfmiddlewaretoken" in form.values)
                return Form(
                    given["formaction"],
                    "post",
                    {"csrfmiddlewaretoken": token["csrfmiddlewaretoken"], given["name"]: self._server_id},
                )
        return None

    def _follow(self, url: str) -> str:
        """Open pages of the authorization server until one leads back to the application."""
        say(f"browser {url}")
        for _ in range(PAGES_AT_MOST):
            # No cookies of the application go there, and the authorization server keeps none.
            answer = httpx.get(url, timeout=REQUEST_SECONDS, trust_env=False, verify=tls_context())
            if not answer.is_redirect:
                raise Ended("stuck", f"{url} answered {answer.status_code}: {answer.text[:500]}")
            url = urljoin(url, answer.headers["location"])
            if url.startswith(f"{self._application.base_url}/"):
                say(f"browser {url}")
                return url
        raise Ended("stuck", f"more than {PAGES_AT_MOST} redirects")

    def _forms_at(self, url: str) -> list[Form]:
        reader = FormReader()
        reader.feed(self._page(url))
        return reader.forms

    def _page(self, url: str) -> str:
        page = self._browser.get(url)
        if page.status_code != 200:
            raise Ended("page", f"{url} answered {page.status_code}")
        return page.text

    def _api(self, path: str) -> str:
        return f"/api/v1/servers/{self._server_id}/{path}"


def wishes(scenario: str, context: dict[str, Any], tools: list[dict[str, Any]]) -> list[Wish]:
    """Return what the person wants to run, now that the tools are known."""
    schemas = {tool["name"]: tool["inputSchema"] for tool in tools}
    calls = errand_of(scenario).get("calls")
    if calls is not None:
        return [
            Wish(call["tool"], {name: schemas.get(of) for name, of in call.get("schemas", {}).items()})
            for call in calls
        ]
    if "toolCalls" in context:
        return [Wish(call["name"], call["arguments"]) for call in context["toolCalls"]]
    return [
        Wish(name, {key: example(of) for key, of in properties(schema).items()}) for name, schema in schemas.items()
    ]


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an object's schema."""
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def answer_to(question: dict[str, Any]) -> dict[str, Any]:
    """Return what a person answers: a yes to a page, and in a form what is asked for and has no default."""
    if question["mode"] != "form":
        return {"action": "accept"}
    schema = question["schema"]
    needed = {name: of for name, of in properties(schema).items() if name in schema.get("required", ())}
    return {"action": "accept", "content": {name: example(of) for name, of in needed.items() if "default" not in of}}


def example(schema: Any) -> Any:
    """Return a value such as a person types into a field."""
    schema = schema if isinstance(schema, dict) else {}
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    examples = {"integer": 3, "number": 2, "boolean": True, "array": [], "object": {}, "null": None}
    return examples.get(str(schema.get("type")), "example")


def main() -> int:
    """Do the errand and return the exit code."""
    application = Application(**json.loads(os.environ[APPLICATION]))
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    scenario, revision = os.environ["MCP_CONFORMANCE_SCENARIO"], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    disappointments = []
    try:
        person = Person(application, add_server(application, sys.argv[-1], context, revision))
        person.sign_in()
        for wish in wishes(scenario, context, person.tools()):
            try:
                person.run(wish)
            except Ended as end:
                # One tool that cannot be run keeps nobody from trying the next.
                disappointments.append(end)
    except Ended as end:
        disappointments.append(end)
    for disappointment in disappointments:
        say(f"person  gave up: {disappointment}")
    say(f"outcome {disappointments[0].outcome if disappointments else 'done'}")
    return 1 if disappointments else 0


if __name__ == "__main__":
    sys.exit(main())
