"""The report of an audit: one session for people who answer for its data, as a page and as JSON."""
