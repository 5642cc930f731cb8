"""What is in deploy/, held against the programs that will read it and against the daemon that it starts."""
