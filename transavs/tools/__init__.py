"""The code behind every command; the scripts in `tools/` and `datasets/` only call it."""
