"""Where vectors and what is known of images live on disk, and how they get there without being lost."""
