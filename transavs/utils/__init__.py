"""Small helpers without a room of their own; they import nothing else of the package."""
