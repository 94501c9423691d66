"""Results as pictures: HTML pages, contact sheets, and previews in the terminal."""
