"""The project that serves the application: settings, addresses, entry points and security headers."""
