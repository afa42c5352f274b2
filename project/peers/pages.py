"""The pages of the authorization server: sign-in, consent and what went wrong; plain HTML, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlsplit

PAGE_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # No form-action: browsers apply it to the redirect that carries the code to the client.
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Real providers send this, and it severs window.opener.
    "cross-origin-opener-policy": "same-origin",
}


def _page(*, title: str, service: str, stylesheet: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · {escape(service)}</title>
<link rel="stylesheet" href="{escape(stylesheet)}">
</head>
<body>
<main class="card">
<p class="service"><span class="mark" aria-hidden="true">{escape(service[:1].upper())}</span>{escape(service)}</p>
{body}
</main>
<footer>A demonstration service on this machine.</footer>
</body>
</html>
"""


def sign_in_page(
    *,
    service: str,
    stylesheet: str,
    action: str,
    pending: str,
    client_name: str,
    username: str = "",
    error: str = "",
    accounts: Sequence[str] = (),
) -> str:
    """Return the page that asks for a user name and a password."""
    alert = f'<p class="alert" id="problem" role="alert">{escape(error)}</p>' if error else ""
    # After a refused attempt the password is what has to be typed again.
    focus_name, focus_password = ("", " autofocus") if error else (" autofocus", "")
    described = ' aria-invalid="true" aria-describedby="problem"' if error else ""
    hint = ""
    if accounts:
        names = " or ".join(f"<kbd>{escape(name)}</kbd>" for name in accounts)
        hint = f'<p class="hint">Demonstration accounts: {names}. The password is the same word.</p>'
    body = f"""<h1>Sign in</h1>
<p class="lead">to continue to <strong>{escape(client_name)}</strong></p>
{alert}
<form method="post" action="{escape(action)}">
<input type="hidden" name="request" value="{escape(pending)}">
<label for="username">User name</label>
<input id="username" name="username" type="text" value="{escape(username)}" autocomplete="username"
  autocapitalize="none" spellcheck="false" required{focus_name}{described}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password"
  required{focus_password}{described}>
<div class="actions"><button class="primary" type="submit">Sign in</button></div>
</form>
{hint}"""
    return _page(title="Sign in", service=service, stylesheet=stylesheet, body=body)


def consent_page(
    *,
    service: str,
    stylesheet: str,
    action: str,
    sign_out_action: str,
    pending: str,
    nonce: str,
    user: str,
    client_name: str,
    client_identity: str,
    redirect_uri: str,
    scopes: Mapping[str, str],
) -> str:
    """Return the page that names the client and the scopes, with Allow and Deny.

    ``scopes`` maps each requested scope to what it means; ``client_identity`` says how far the name can be trusted.
    """
    rows = "\n".join(
        f"<li><span>{escape(meaning)}</span> <code>{escape(scope)}</code></li>" for scope, meaning in scopes.items()
    )
    wanted = (
        f'<p>It asks to:</p>\n<ul class="scopes">\n{rows}\n</ul>' if rows else "<p>It asks to know who you are.</p>"
    )
    body = f"""<h1>Allow {escape(client_name)}?</h1>
<p class="lead"><strong>{escape(client_name)}</strong> wants to use {escape(service)} as you.</p>
{wanted}
<dl>
<dt>Client</dt><dd>{escape(client_identity)}</dd>
<dt>Returns to</dt><dd>{escape(urlsplit(redirect_uri).netloc or redirect_uri)}</dd>
</dl>
<form method="post" action="{escape(action)}">
<input type="hidden" name="request" value="{escape(pending)}">
<input type="hidden" name="nonce" value="{escape(nonce)}">
<div class="actions">
<button class="primary" type="submit" name="decision" value="allow">Allow</button>
<button type="submit" name="decision" value="deny">Deny</button>
</div>
</form>
<form class="account" method="post" action="{escape(sign_out_action)}">
<input type="hidden" name="request" value="{escape(pending)}">
<p>Signed in as <strong>{escape(user)}</strong>.</p>
<button class="quiet" type="submit">Use another account</button>
</form>"""
    return _page(title=f"Allow {client_name}?", service=service, stylesheet=stylesheet, body=body)


def problem_page(*, service: str, stylesheet: str, title: str, explanation: str) -> str:
    """Return the page for a request that must not be redirected anywhere (RFC 6749 §4.1.2.1)."""
    body = f"""<h1>{escape(title)}</h1>
<p class="lead">{escape(explanation)}</p>
<p>You can close this page and start again from the application that sent you here.</p>"""
    return _page(title=title, service=service, stylesheet=stylesheet, body=body)
