"""Values and decisions: nothing here reads a clock, a file, a process or a socket."""
