"""Offline fitting of the shipped facts to measured data."""
