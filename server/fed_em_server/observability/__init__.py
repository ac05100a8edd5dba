"""What the server's operator can watch: metrics, logs and traces of sessions, and the rules and dashboards made from the same list."""
