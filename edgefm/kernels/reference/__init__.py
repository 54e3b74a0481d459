"""Each operator in plain torch: slow, in any floating-point type, and what the other implementations are held to."""
