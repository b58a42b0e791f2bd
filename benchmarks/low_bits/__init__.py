"""Below eight bits: the tables and the picture of docs/low-bits.md."""
