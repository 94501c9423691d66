"""Where the bytes of images come from: files on this machine, found by local.py and read by content.py."""
