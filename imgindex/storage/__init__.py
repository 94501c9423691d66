"""The index on disk: catalogue, segments, lock, commit, and how they are checked and repaired."""
