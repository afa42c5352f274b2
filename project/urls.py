"""The project's addresses: the application at the root, beside the admin and the sign-in pages."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import include, path

from mcp_oauth.views import pages
from project import styleguide


def favicon(_request: HttpRequest) -> HttpResponseRedirect:
    """Lead browsers to the icon where a page names none, such as those of the Django admin."""
    return HttpResponseRedirect(static("mcp_oauth/favicon.svg"))


urlpatterns = [
    path("", pages.home, name="home"),
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("favicon.ico", favicon),
    path("styleguide/", styleguide.show, name="styleguide"),
    path("", include("mcp_oauth.urls")),
]
