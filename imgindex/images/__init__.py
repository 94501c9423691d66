"""From folders to pictures: find image files, read and fingerprint their bytes, decode them."""
