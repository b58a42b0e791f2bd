"""What the commands have in common: options, what a terminal shows, how a process ends."""
