"""What work reports, as the JSON that scripts read. Never imports torch."""
