"""Who came into a workspace, went, or got another role is on record, whatever way it happened."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.urls import reverse

from mcp_oauth.models import Event, McpServer, Membership, Workspace
from tests.people import browser_of, member, new_workspace

pytestmark = pytest.mark.django_db(transaction=True)


def on_record(workspace: Workspace) -> list[tuple[str, str, str, str]]:
    """Return what is on record of the people of a workspace, the oldest first."""
    kinds = (Event.Kind.MEMBER_ADDED, Event.Kind.MEMBER_CHANGED, Event.Kind.MEMBER_REMOVED)
    rows = Event.objects.filter(workspace_id=workspace.pk, kind__in=kinds).order_by("at")
    return list(rows.values_list("kind", "outcome", "user_name", "actor_name"))


def test_who_came_got_another_role_and_went_is_on_record_with_who_did_it() -> None:
    workspace = new_workspace()
    root = member(workspace, "root", role=Membership.Role.ADMIN)
    grace = member(name="grace")
    client = browser_of(root)
    home = f"/workspaces/{workspace.slug}/members/"

    client.post(home, {"person": "grace", "role": "member"})
    theirs = f"{home}{Membership.objects.get(user=grace).pk}/"
    client.post(f"{theirs}role/", {"role": "admin"})
    client.post(f"{theirs}role/", {"role": "admin"})  # says the same again, and changes nothing
    client.post(f"{theirs}role/", {"role": "member"})
    client.post(f"{theirs}remove/")

    assert on_record(workspace) == [
        ("member_added", "member", "grace", "root"),
        ("member_changed", "admin", "grace", "root"),
        ("member_changed", "member", "grace", "root"),
        ("member_removed", "member", "grace", "root"),
    ]
    html = client.get(f"/workspaces/{workspace.slug}/mcp/activity/").content.decode()
    for words in ("was added as a member", "became an administrator", "left the workspace or was removed", "by you"):
        assert words in html, words


def test_nothing_is_on_record_of_what_was_refused() -> None:
    workspace = new_workspace()
    root = member(workspace, role=Membership.Role.ADMIN)
    theirs = f"/workspaces/{workspace.slug}/members/{Membership.objects.get(user=root).pk}/"
    for tail in ("role/", "remove/"):
        browser_of(root).post(f"{theirs}{tail}", {"role": "member"})

    assert on_record(workspace) == []


def test_a_person_whose_account_is_deleted_goes_on_record_by_name() -> None:
    workspace = new_workspace()
    member(workspace, "grace").delete()

    assert on_record(workspace) == [("member_removed", "member", "grace", "")]


def test_the_first_people_of_a_workspace_are_on_record() -> None:
    root = member(name="root")
    root.user_permissions.add(Permission.objects.get(codename="add_workspace"))
    browser_of(root).post("/workspaces/new/", {"name": "By hand", "slug": "by-hand"})
    call_command("add_workspace", "By command", slug="by-command", admin=["root"], stdout=StringIO())

    assert on_record(Workspace.objects.get(slug="by-hand")) == [("member_added", "admin", "root", "root")]
    assert on_record(Workspace.objects.get(slug="by-command")) == [("member_added", "admin", "root", "")]


def test_the_django_admin_puts_people_on_record_as_well() -> None:
    workspace = new_workspace()
    User.objects.create_superuser("operator", password="secret")
    operator, grace = browser_of(User.objects.get(username="operator")), member(name="grace")
    operator.post(
        reverse("admin:mcp_oauth_membership_add"),
        {"workspace": str(workspace.pk), "user": str(grace.pk), "role": "member"},
    )
    place = Membership.objects.get(user=grace)
    rows = {
        "name": workspace.name,
        "slug": workspace.slug,
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(place.pk),
        "memberships-0-workspace": str(workspace.pk),
        "memberships-0-user": str(grace.pk),
    }
    change = reverse("admin:mcp_oauth_workspace_change", args=[workspace.pk])
    operator.post(change, {**rows, "memberships-0-role": "admin"})
    operator.post(change, {**rows, "memberships-0-role": "admin"})
    operator.post(change, {**rows, "memberships-0-role": "admin", "memberships-0-DELETE": "on"})

    assert on_record(workspace) == [
        ("member_added", "member", "grace", "operator"),
        ("member_changed", "admin", "grace", "operator"),
        ("member_removed", "admin", "grace", "operator"),
    ]


# --- the way there ----------------------------------------------------------------------------------------------------


def test_members_find_the_way_to_the_export_of_servers() -> None:
    workspace = new_workspace()
    McpServer.objects.create(workspace=workspace, name="Notes", slug="notes", url="https://notes.example.com/mcp")
    client = browser_of(member(workspace))
    link = f"/workspaces/{workspace.slug}/mcp/export/"

    assert f'href="{link}"' in client.get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    assert client.get(link).status_code == 200
