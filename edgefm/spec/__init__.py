"""What EdgeFM writes on disk, as typed structs. Not behaviour: no file is opened here."""
