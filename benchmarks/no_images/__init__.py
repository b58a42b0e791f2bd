"""What ranges cost and bring that are made without an image: the tables and pictures of docs/no-images.md."""
