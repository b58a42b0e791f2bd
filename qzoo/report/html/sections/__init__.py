"""What a page says of each kind of result, a kind a file: a verdict, and sections of text, tables and charts."""
