"""Charts of results, a subject a file, drawn by matplotlib and put into a page as SVG."""
