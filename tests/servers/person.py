"""A person with a browser, played by plain httpx: on purpose another HTTP stack than the one under test."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

MAXIMUM_PAGES = 12


@cache
def tls_context() -> ssl.SSLContext:
    """Return one TLS context for every client of the tests: making one takes some 20 ms."""
    return ssl.create_default_context()


class PageRefused(AssertionError):
    """The authorization server showed a page that a person cannot get past."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} at {response.url.path}: {response.text[:2000]}")
        self.response = response


@dataclass(slots=True)
class Form:
    """A form of a page with the values a browser would send."""

    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class FormReader(HTMLParser):
    """Collects the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a form, or a control of the last one."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(action=values.get("action", ""), method=values.get("method", "get").lower()))
        elif not self.forms:
            return
        elif tag == "input":
            self.forms[-1].values[values.get("name", "")] = values.get("value", "")
            self.forms[-1].fields.append(values.get("name", ""))
        elif tag == "button":
            self.forms[-1].buttons.append((values.get("name", ""), values.get("value", "")))


class Person:
    """Somebody with an account at an authorization server; the password defaults to the name.

    The browser keeps its cookies: a second authorization finds the person signed in. Usable as a context manager.
    """

    def __init__(self, name: str, password: str | None = None) -> None:
        self.name = name
        self.password = name if password is None else password
        # Where the browser has been, authorization pages and forms alike.
        self.visited: list[str] = []
        self._http = httpx.Client(follow_redirects=False, trust_env=False, timeout=10, verify=tls_context())

    def authorize(self, authorization_url: str) -> str:
        """Sign in and press Allow; return the callback URL without opening it.

        Raises: ``PageRefused`` when the authorization server shows an error page.
        """
        return self._walk(authorization_url, decision="allow")

    def deny(self, authorization_url: str) -> str:
        """Sign in and press Deny; return the callback URL without opening it."""
        return self._walk(authorization_url, decision="deny")

    def close(self) -> None:
        """Close the browser."""
        self._http.close()

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _walk(self, url: str, *, decision: str) -> str:
        redirect_uri = parse_qs(urlsplit(url).query).get("redirect_uri", [""])[0]
        response = self._open("GET", url)
        for _ in range(MAXIMUM_PAGES):
            if response.is_redirect:
                target = urljoin(str(response.url), response.headers["location"])
                if _same_page(target, redirect_uri):
                    return target
                response = self._open("GET", target)
                continue
            if response.status_code >= 400:
                raise PageRefused(response)
            response = self._submit(response, decision)
        raise AssertionError(f"{self.name} was sent around for more than {MAXIMUM_PAGES} pages.")

    def _submit(self, page: httpx.Response, decision: str) -> httpx.Response:
        reader = FormReader()
        reader.feed(page.text)
        for form in reader.forms:
            values = dict(form.values)
            if "password" in form.fields:
                values |= {"username": self.name, "password": self.password}
            elif ("decision", decision) in form.buttons:
                values["decision"] = decision
            else:
                continue
            return self._open(form.method.upper(), urljoin(str(page.url), form.action), values)
        raise PageRefused(page)

    def _open(self, method: str, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        self.visited.append(url)
        return self._http.request(method, url, data=form)


def _same_page(url: str, redirect_uri: str) -> bool:
    return bool(redirect_uri) and urlsplit(url)[:3] == urlsplit(redirect_uri)[:3]
