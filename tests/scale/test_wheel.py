"""The built wheel works in somebody else's project: pages, stylesheet, migrations and types travel inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What a project has to write to use the application, as the documentation says.
SETTINGS = """
INSTALLED_APPS += ["mcp_oauth"]
LOGIN_URL = "/accounts/login/"
MCP_OAUTH = {
    "ENCRYPTION_KEYS": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
    "PUBLIC_URL": "https://host.example.com",
}
"""
URLS = """
from django.urls import include

urlpatterns += [path("", include("mcp_oauth.urls"))]
"""
OPEN_THE_PAGE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "host.settings"
import django
django.setup()

import re
from pathlib import Path
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client
from django.test.utils import setup_test_environment
import mcp_oauth
from mcp_oauth.models import Membership, Workspace

assert Path(mcp_oauth.__file__).is_relative_to(Path(os.environ["INSTALLED_AT"])), mcp_oauth.__file__
setup_test_environment()
user = User.objects.create_user("ada")
workspace = Workspace.objects.create(name="Analytical Engines", slug="engines")
Membership.objects.create(workspace=workspace, user=user, role="admin")
client = Client()
client.force_login(user)
response = client.get("/workspaces/engines/mcp/")
assert response.status_code == 200, (response.status_code, response.headers)
page = response.content.decode()
assert "Analytical Engines" in page
files = re.findall(r'(?:href|src)="/static/(mcp_oauth/[^"?#]+)', page)
assert any(name.endswith(".css") for name in files), files
for name in files:
    assert finders.find(name), name
print("found", *sorted(set(files)))
"""


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; its errors become the test's."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **(environment or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with what is installed here; nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_application_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert {name.split("/")[0] for name in names} == {"mcp_oauth", "django_mcp_connect-0.1.0.dist-info"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mcp_oauth").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    } | {
        f"mcp_oauth/{path.relative_to(ROOT).as_posix()}"
        for kind in ("templates", "static")
        for path in (ROOT / kind / "mcp_oauth").rglob("*")
        if path.is_file()
    }
    assert expected <= names
    assert "mcp_oauth/py.typed" in names
    assert "django_mcp_connect-0.1.0.dist-info/licenses/LICENSE" in names


def test_the_settings_page_opens_in_a_fresh_project(wheel: Path, tmp_path: Path) -> None:
    installed, project = tmp_path / "installed", tmp_path / "project"
    project.mkdir()
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-index", "--target", installed, wheel),
        cwd=tmp_path,
    )
    environment = {"PYTHONPATH": str(installed), "INSTALLED_AT": str(installed)}
    run(sys.executable, "-m", "django", "startproject", "host", ".", cwd=project, environment=environment)
    for name, addition in (("settings.py", SETTINGS), ("urls.py", URLS)):
        with (project / "host" / name).open("a", encoding="utf-8") as file:
            file.write(addition)

    run(sys.executable, "manage.py", "migrate", "--verbosity", "0", cwd=project, environment=environment)
    printed = run(sys.executable, "-c", OPEN_THE_PAGE, cwd=project, environment=environment)

    assert printed.startswith("found mcp_oauth/")
