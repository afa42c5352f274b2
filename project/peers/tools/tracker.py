"""The tools of the issue tracker; every person has issues of their own, kept in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from project.peers.resource_server import current_user

Priority = Literal["low", "medium", "high", "urgent"]
IssueNumber = Annotated[int, Field(ge=1, description="The number of the issue, without the #.")]


class Comment(BaseModel):
    """A remark under an issue."""

    author: str
    body: str
    written_at: str = Field(description="ISO 8601, UTC.")


class Issue(BaseModel):
    """One issue with everything about it."""

    number: int
    title: str
    body: str
    status: Literal["open", "closed"]
    priority: Priority
    labels: list[str]
    author: str
    created_at: str = Field(description="ISO 8601, UTC.")
    comments: list[Comment]


class IssueSummary(BaseModel):
    """One line of a list."""

    number: int
    title: str
    status: Literal["open", "closed"]
    priority: Priority
    labels: list[str]
    comments: int


class IssueList(BaseModel):
    """Issues, newest first; ``total`` counts those that ``limit`` left out as well."""

    issues: list[IssueSummary]
    total: int


class Identity(BaseModel):
    """Whom the tracker takes the caller for."""

    user: str
    open_issues: int


SEED: tuple[tuple[str, str, Priority, tuple[str, ...]], ...] = (
    ("Export fails on empty projects", "The button answers with an error when there is nothing.", "high", ("bug",)),
    ("Explain the billing page", "Three people asked what 'seat' means.", "medium", ("docs", "billing")),
    ("Dark theme for charts", "Axis labels cannot be read on dark ground.", "low", ("design",)),
)


class Tracker:
    """The issues of every person, by user name."""

    def __init__(self) -> None:
        self._issues: dict[str, dict[int, Issue]] = {}

    def mine(self) -> dict[int, Issue]:
        """Return the caller's issues by number, with a few to start from."""
        user = current_user()
        if user not in self._issues:
            self._issues[user] = {}
            for title, body, priority, labels in SEED:
                self.add(title, body, list(labels), priority)
        return self._issues[user]

    def add(self, title: str, body: str, labels: list[str], priority: Priority) -> Issue:
        """Create an issue of the caller's."""
        user = current_user()
        issues = self._issues[user]
        issue = Issue(
            number=len(issues) + 1,
            title=title,
            body=body,
            status="open",
            priority=priority,
            labels=labels,
            author=user,
            created_at=_now(),
            comments=[],
        )
        issues[issue.number] = issue
        return issue

    def get(self, number: int) -> Issue:
        """Return one of the caller's issues.

        Raises: ``ToolError`` when there is none with that number.
        """
        issue = self.mine().get(number)
        if issue is None:
            raise ToolError(f"There is no issue #{number}.")
        return issue


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def add_tracker_tools(server: MCPServer[Any]) -> None:
    """Give a server the issue tracker's tools."""
    tracker = Tracker()

    @server.tool(title="Who am I?", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def whoami() -> Identity:
        """Say whose account is connected and how many of its issues are open."""
        issues = tracker.mine().values()
        return Identity(user=current_user(), open_issues=sum(issue.status == "open" for issue in issues))

    @server.tool(title="List issues", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def list_issues(
        status: Annotated[Literal["open", "closed", "all"], Field(description="Which issues to list.")] = "open",
        limit: Annotated[int, Field(ge=1, le=100, description="How many issues to list at most.")] = 20,
    ) -> IssueList:
        """List your issues, newest first."""
        found = [issue for issue in tracker.mine().values() if status in ("all", issue.status)]
        newest = sorted(found, key=lambda issue: issue.number, reverse=True)
        return IssueList(
            issues=[
                IssueSummary(
                    number=issue.number,
                    title=issue.title,
                    status=issue.status,
                    priority=issue.priority,
                    labels=issue.labels,
                    comments=len(issue.comments),
                )
                for issue in newest[:limit]
            ],
            total=len(found),
        )

    @server.tool(title="Read an issue", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def get_issue(number: IssueNumber) -> Issue:
        """Return one issue with its description and comments."""
        return tracker.get(number)

    @server.tool(
        title="Create an issue",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    def create_issue(
        title: Annotated[str, Field(min_length=1, max_length=200, description="One line that names the problem.")],
        body: Annotated[str, Field(max_length=20000, description="What happens, and what should happen instead.")] = "",
        labels: Annotated[list[str], Field(max_length=10, description="Words to find it by.")] = [],  # noqa: B006
        priority: Annotated[Priority, Field(description="How soon it has to be looked at.")] = "medium",
    ) -> Issue:
        """Create an issue and return it with its number."""
        tracker.mine()
        return tracker.add(title, body, list(labels), priority)

    @server.tool(
        title="Add a comment",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    def add_comment(
        number: IssueNumber,
        body: Annotated[str, Field(min_length=1, max_length=20000, description="The text of the comment.")],
    ) -> Issue:
        """Write a comment under an issue and return the issue."""
        issue = tracker.get(number)
        issue.comments.append(Comment(author=current_user(), body=body, written_at=_now()))
        return issue

    @server.tool(
        title="Close an issue",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    def close_issue(
        number: IssueNumber,
        comment: Annotated[str, Field(max_length=20000, description="Why it is closed; may be empty.")] = "",
    ) -> Issue:
        """Close an issue, with an optional last comment. Needs the scope issues:close."""
        issue = tracker.get(number)
        if comment:
            issue.comments.append(Comment(author=current_user(), body=comment, written_at=_now()))
        issue.status = "closed"
        return issue
