"""What the methods of ImageIndex answer, as frozen dataclasses; nothing here imports anything heavy."""
