"""One run of `add`: survey what changed on disk, then read, decode, embed and commit what is new."""
