"""Results as one HTML file that opens from disk: figures, tables, charts, pictures, the recipe and the command."""
