"""The command line: each command parses its words, makes one request to the daemon, and shows the answer."""
