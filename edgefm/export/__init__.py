"""Turn a torch model into graphs that other engines run, and prove that they answer the same. Not compression."""
