"""Images made without any data, and what batch norm remembers of the data that a network was trained on."""
