"""From stored vectors to clusterings: k-means, choosing k, and how clusterings are kept, named and compared."""
