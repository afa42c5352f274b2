"""Makes one workspace and one person for each run: ``python -m tests.conformance.people COUNT PASSWORD``."""

from __future__ import annotations

import sys

import django


def name_of(number: int) -> str:
    """Return the user name of a run's person, which is its workspace's short name as well."""
    return f"run-{number}"


def main() -> None:
    """Make them; the password is hashed once, because that takes longer than the rest."""
    django.setup()
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import User

    from mcp_oauth.services.workspaces import add_workspace

    count, password = int(sys.argv[1]), make_password(sys.argv[2])
    for number in range(count):
        person = User.objects.create(username=name_of(number), password=password)
        add_workspace(f"Run {number}", name_of(number), admins=[person], members=[])


if __name__ == "__main__":
    main()
