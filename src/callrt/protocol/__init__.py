"""The pure middle: bytes in, events out; time and randomness are arguments. Nothing here awaits."""
