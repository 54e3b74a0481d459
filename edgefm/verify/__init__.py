"""Evidence: how good the answers are, and whether two models or engines give the same ones. Not the engines themselves."""
