"""Sessions with MCP servers, and the event loop they run on; importing this package does not import the SDK."""
