"""The methods of ImageIndex, by subject: each class holds some of them, and index.py joins the classes."""
