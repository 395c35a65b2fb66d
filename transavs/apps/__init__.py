"""The commands: what each does, what it draws, and its command line."""
