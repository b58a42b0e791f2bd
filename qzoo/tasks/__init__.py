"""What people do with the zoo: calibrate, evaluate, reproduce. Plain arguments in, plain results out, no printing."""
