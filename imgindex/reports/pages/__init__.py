"""Answers as pages that one looks at: plain data in, one self-contained HTML file out."""
