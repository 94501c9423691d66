"""The version, alone in its file so that packaging and `--version` read it without importing anything."""

VERSION = "0.1.0"
