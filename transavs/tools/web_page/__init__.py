"""The page of ``tools/webdemo.py``: sessions with their files, the gate before Gradio, the page."""
