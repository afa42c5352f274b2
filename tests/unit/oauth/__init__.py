"""The protocol as pure functions: no server, no database, no clock."""
