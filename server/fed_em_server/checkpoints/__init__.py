"""What a server keeps of a session so that another process goes on with it, at the same round and to the same parameters."""
