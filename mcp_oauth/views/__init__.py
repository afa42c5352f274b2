"""The workspace's pages and the OAuth endpoints."""
