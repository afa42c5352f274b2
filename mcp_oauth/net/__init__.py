"""The only door to the network: every request this application makes passes the guard of this package."""
