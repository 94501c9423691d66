"""Files for other programs: tables, vectors, submissions, and folders of links."""
