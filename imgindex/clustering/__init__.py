"""From stored vectors to clusterings: made, kept, added to, compared."""
