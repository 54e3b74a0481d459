"""The operators as torch knows them: schema, shapes without data (fake), gradient. Not their arithmetic: see `select.py`."""
