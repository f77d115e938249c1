"""The HTTP server: `seqloom serve RUN`."""
