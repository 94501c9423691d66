"""Images in zip and tar archives, read in place: nothing is extracted to the disk."""
