"""What one looks at: clusters in pictures; pages, contact sheets and previews, with their thumbnails."""
