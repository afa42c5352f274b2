"""OAuth 2.1 for MCP as pure functions over plain values: they build requests and read answers, and send nothing.

One file per step, in the order a connection is made:

1. ``challenge`` reads ``WWW-Authenticate`` (RFC 9110 §11.6.1, RFC 6750 §3).
2. ``protected_resource`` finds and checks the server's metadata (RFC 9728).
3. ``authorization_server`` finds and checks the issuer's metadata (RFC 8414).
4. ``registration`` decides how we become a client there, and becomes one (RFC 7591, client ID metadata documents).
5. ``authorization`` builds the address the person visits and checks what comes back (RFC 6749 §4.1, RFC 9207).
6. ``token`` exchanges the code and refreshes (RFC 6749 §4.1.3, §6); it also asks without a person at the browser: with
   the client alone (RFC 6749 §4.4) or with another issuer's assertion (RFC 8693, RFC 7523 §2.1).
7. ``bearer`` puts the access token on requests to its server and nowhere else (RFC 6750 §2.1).
8. ``revocation`` ends a grant at its issuer (RFC 7009).

Beside them: ``options`` (what an administrator may change per server), ``urls`` (every judgement about an address),
``json_documents`` and ``server_words`` (reading untrusted bodies and quoting untrusted text),
``client_authentication`` (how a client proves itself at an endpoint), ``signing_keys`` (the private keys it may do that
with), ``dpop`` (proofs that bind a token to a key, RFC 9449).
"""
