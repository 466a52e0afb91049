"""Attacks as query strategies, one file each."""
