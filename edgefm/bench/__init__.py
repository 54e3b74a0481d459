"""What a bundle costs on this machine: time, memory, bytes. Not how right it is (`verify/`)."""
