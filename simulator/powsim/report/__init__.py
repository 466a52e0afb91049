"""How results are shown: terminal tables, a self-contained page, a picture."""
