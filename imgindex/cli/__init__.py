"""The terminal: every file is one command, but for app.py, options.py and output.py."""
