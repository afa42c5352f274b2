"""The response headers that Django does not send by itself; a view's own headers are never overridden."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from mcp_oauth.views.access import MediaResponse

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

# Where a page shows what a tool returned: the pictures and sounds are in the page, and still nothing is fetched.
MEDIA_POLICY = CONTENT_SECURITY_POLICY.replace("img-src 'self'", "img-src 'self' data:; media-src data:")

# Powerful features a page could ask for; none of ours does.
PERMISSIONS_POLICY = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "geolocation",
        "gyroscope",
        "hid",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "publickey-credentials-get",
        "serial",
        "usb",
    )
)


class SecurityHeadersMiddleware(MiddlewareMixin):
    """Adds Content-Security-Policy and Permissions-Policy; Django's SecurityMiddleware adds the others."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response with the headers it lacks."""
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        # Django's technical error pages are made of inline styles and scripts and exist under DEBUG only.
        if not (settings.DEBUG and response.status_code in {404, 500}):
            policy = MEDIA_POLICY if isinstance(response, MediaResponse) else CONTENT_SECURITY_POLICY
            response.headers.setdefault("Content-Security-Policy", policy)
        return response
