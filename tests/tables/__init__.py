"""Tests of audito/tables, row by row."""
