"""The command line: one file a command, beside app.py, options.py, inputs.py and output.py."""
