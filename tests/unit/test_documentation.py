"""What can be set, run, checked or raised is documented, and what is documented exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import mcp_oauth
from mcp_oauth.conf import McpOAuthSettings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.oauth.options import OAuthOptions

ROOT = Path(__file__).resolve().parent.parent.parent


def first_column(document: str, pattern: str) -> set[str]:
    """Return the names in the first column of a document's tables that look like the pattern."""
    text = (ROOT / "docs" / document).read_text()
    return set(re.findall(rf"^\| `({pattern})[` ]", text, flags=re.MULTILINE))


def error_classes(of: type[McpOAuthError] = McpOAuthError) -> Iterator[type[McpOAuthError]]:
    for cls in of.__subclasses__():
        if cls.__module__ == "mcp_oauth.exceptions":
            yield cls
        yield from error_classes(cls)


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    assert first_column("settings.md", "[A-Z][A-Z0-9_]+") == {item.name for item in fields(McpOAuthSettings)}


def test_every_oauth_option_is_documented_and_every_documented_option_exists() -> None:
    assert first_column("settings.md", "[a-z][a-z0-9_]+") == {item.name for item in fields(OAuthOptions)}


def test_every_command_is_documented_and_every_documented_command_exists() -> None:
    folders = [ROOT / "mcp_oauth/management/commands", ROOT / "project/management/commands"]
    commands = {path.stem for folder in folders for path in folder.glob("[a-z]*.py")}
    assert first_column("commands.md", "[a-z_]+") == commands


def test_every_check_is_documented_and_every_documented_check_exists() -> None:
    source = (ROOT / "mcp_oauth/checks.py").read_text()
    assert first_column("settings.md", r"mcp_oauth\.[EW]\d{3}") == set(
        re.findall(r'id="(mcp_oauth\.[EW]\d{3})"', source)
    )


def test_every_error_code_is_documented_and_every_documented_code_exists() -> None:
    text = (ROOT / "docs/errors.md").read_text().partition("`reauth_required` carries")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \| `([A-Za-z]+)` \| (\d+) \|", text, flags=re.MULTILINE))
    assert documented == {(cls.code, cls.__name__, str(cls.http_status)) for cls in error_classes()}


def test_error_codes_are_not_shared() -> None:
    codes = [cls.code for cls in error_classes()]
    assert len(codes) == len(set(codes))


def test_the_tree_drawn_in_the_module_is_the_tree() -> None:
    import mcp_oauth.exceptions

    drawn = re.findall(r"[├└]── (\w+)\s+(\w+)", mcp_oauth.exceptions.__doc__ or "")
    assert set(drawn) == {(cls.__name__, cls.code) for cls in error_classes()}


@pytest.mark.parametrize("name", mcp_oauth.__all__)
def test_every_public_name_can_be_imported_and_has_a_docstring(name: str) -> None:
    assert getattr(mcp_oauth, name).__doc__


def test_the_public_names_are_these() -> None:
    assert mcp_oauth.__all__ == [
        "Answer",
        "AuthorizationFailed",
        "AuthorizationRequired",
        "InputRequired",
        "McpOAuthError",
        "NotAllowed",
        "ServerRefused",
        "ServerUnreachable",
        "acall_tool",
        "acomplete",
        "aget_prompt",
        "alist_prompts",
        "alist_resource_templates",
        "alist_resources",
        "alist_tools",
        "alist_workspace_tools",
        "aread_resource",
        "aresume_call",
        "call_tool",
        "cancel_call",
        "complete",
        "disconnect",
        "find_call",
        "finish_authorization",
        "get_prompt",
        "list_prompts",
        "list_resource_templates",
        "list_resources",
        "list_tools",
        "list_workspace_tools",
        "read_resource",
        "resume_call",
        "start_authorization",
    ]
    assert set(mcp_oauth.__all__) <= set(dir(mcp_oauth))


def test_every_picture_stands_on_the_page_of_pictures() -> None:
    shown = set(re.findall(r"\(images/([\w-]+\.png)\)", (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")))

    assert shown == {picture.name for picture in (ROOT / "docs" / "images").glob("*.png")}


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
