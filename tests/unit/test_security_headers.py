"""Every answer carries the security headers, and a view may say otherwise."""

from __future__ import annotations

import asyncio
from inspect import isawaitable

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from mcp_oauth.views.access import MediaResponse
from project.security import CONTENT_SECURITY_POLICY, SecurityHeadersMiddleware


def through(response: HttpResponse) -> HttpResponse:
    """Return the response as it leaves the middleware."""
    middleware = SecurityHeadersMiddleware(lambda request: response)
    answer = middleware(RequestFactory().get("/"))
    assert isinstance(answer, HttpResponse)
    return answer


@pytest.mark.requirement("mcp-bp-csp", "T40")
def test_a_page_gets_a_policy_without_inline_script() -> None:
    response = through(HttpResponse())

    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in response["Content-Security-Policy"]
    assert "camera=()" in response["Permissions-Policy"]


def test_pictures_in_a_page_itself_are_allowed_where_results_are_shown_and_nowhere_else() -> None:
    shown = through(MediaResponse())["Content-Security-Policy"]

    assert "img-src 'self' data:; media-src data:" in shown
    assert shown.count("data:") == 2
    assert "data:" not in through(HttpResponse())["Content-Security-Policy"]


def test_a_header_of_the_view_stays() -> None:
    response = through(HttpResponse(headers={"Content-Security-Policy": "sandbox", "Permissions-Policy": "usb=(self)"}))

    assert response["Content-Security-Policy"] == "sandbox"
    assert response["Permissions-Policy"] == "usb=(self)"


@pytest.mark.parametrize("status", [404, 500])
def test_only_debug_error_pages_go_without_a_policy(status: int, settings: Settings) -> None:
    assert "Content-Security-Policy" in through(HttpResponse(status=status))

    settings.DEBUG = True
    assert "Content-Security-Policy" not in through(HttpResponse(status=status))
    assert "Content-Security-Policy" in through(HttpResponse())


def test_an_asynchronous_view_is_covered_too() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    async def ask() -> HttpResponse:
        answer = SecurityHeadersMiddleware(view)(RequestFactory().get("/"))
        assert isawaitable(answer)
        response = await answer
        assert isinstance(response, HttpResponse)
        return response

    assert "Content-Security-Policy" in asyncio.run(ask())
